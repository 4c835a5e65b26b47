"""Verdicts and ranks from records whose right answer is known."""

import math

from support import STUDY

from lossbench.metrics.uncertainty import Estimate
from lossbench.results.metric_fields import metric
from lossbench.results.verdicts import Verdict, rank_table, verdict_table, verdicts


def test_ranks_are_shared_where_nothing_is_separable():
    figure = metric("tpr@0.1")

    def verdict(a, b, difference, p):
        return Verdict(figure, a, b, Estimate(difference, 0.1, 4, 0.01, 0.0, 5), p, 0.05)

    found = [verdict("a", "b", 0.1, 0.01), verdict("a", "c", 0.05, 0.3), verdict("b", "c", -0.05, math.nan)]
    ranks = rank_table(found)
    assert dict(zip(ranks["loss"], ranks["tpr@0.1"], strict=True)) == {"a": 1, "b": 2, "c": 1}


def test_verdicts_see_a_clear_difference_and_admit_a_lack_of_one():
    found = {(v.figure.key, v.a, v.b): v for v in verdicts(STUDY)}
    assert found["test_accuracy_ncm", "a", "b"].ahead == "a"
    assert found["test_accuracy_ncm", "a", "b"].adjusted_p > found["test_accuracy_ncm", "a", "b"].difference.p_value
    assert found["test_accuracy_ncm", "a", "c"].text == "not separable"
    assert found["test_accuracy_ncm", "b", "c"].difference.count == 3
    assert found["tpr@0.1", "a", "b"].text == "not separable"
    assert ("tpr@0.001", "a", "b") not in found, "where nothing is supported, nothing is compared"
    assert not any("untrained" in key for key in found)
    assert set(verdict_table(list(found.values()))["verdict"]) == {"a ahead", "not separable"}
