"""Verdicts and ranks from records whose right answer is known."""

import math

from support import RECORDS, STUDY, known_record

from lossbench.metrics.uncertainty import Estimate, unknown
from lossbench.results.metric_fields import metric
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict, rank_table, verdict_rows, verdict_table, verdicts


def test_ranks_are_shared_where_nothing_is_separable():
    figure = metric("tpr@0.1")

    def verdict(a, b, difference, p):
        return Verdict(figure, a, b, Estimate(difference, 0.1, 4, 0.01, 0.0, 5), p, 0.05)

    found = [verdict("a", "b", 0.1, 0.01), verdict("a", "c", 0.05, 0.3), verdict("b", "c", -0.05, math.nan)]
    ranks = rank_table(found)
    assert dict(zip(ranks["loss"], ranks["tpr@0.1"], strict=True)) == {"a": 1, "b": 2, "c": 1}


def test_a_loss_that_was_not_compared_has_no_rank():
    alone = known_record("d", 0, 0.9)
    ranks = rank_table(verdicts(Study((*RECORDS, alone), {}))).set_index("loss")
    assert ranks.loc["d"].tolist() == [None] * 3
    assert ranks.loc[["a", "b"], "test_accuracy_ncm"].tolist() == [1, 2]


def test_rows_hold_no_number_that_cannot_be():
    figure = metric("tpr@0.1")
    two = Verdict(figure, "a", "b", Estimate(0.3, 0.04, 1, 0.0, 7, 2), 0.2, 0.05)
    one = Verdict(figure, "a", "b", unknown(0.3, 1), math.nan, 0.05)
    wide, none = verdict_rows([two, one])
    assert (wide["difference_low"], wide["difference_high"]) == (-1, 1), "0.3 ± 2.5"
    assert math.isnan(wide["detectable"]), "no rate can differ by 3.5"
    assert (wide["repeats_to_settle"], wide["verdict"]) == (6, "not separable")
    assert all(math.isnan(none[name]) for name in ("difference_low", "difference_high", "p", "detectable"))
    assert (none["repeats_to_settle"], none["verdict"]) == (None, "needs a second repeat")


def test_a_pair_may_be_settled_by_repeats_that_show_it_equivalent():
    """Equal means are never told apart, but more repeats show that they are equal, unless the people hide it."""
    figure = metric("tpr@0.1")
    between = {people: Estimate(0.0, 0.0004, 4, people**2, 7, 5) for people in (0.0, 0.005, 0.02)}
    needed = {size: Verdict(figure, "a", "b", found, 1.0, 0.01).repeats_to_settle for size, found in between.items()}
    assert 5 < needed[0.0] < needed[0.005] < 50
    assert needed[0.02] is None, "1.89 times 0.02 is more than 0.02"
    assert between[0.0].after(needed[0.0]).within(0.02)
    assert not between[0.0].after(needed[0.0] - 1).within(0.02)
    wide = Estimate(0.021, 0.0004, 4, 0.0, 7, 5)
    assert wide.repeats_to_be_within(0.02) is None
    assert Verdict(figure, "a", "b", wide, 1.0, 0.01).repeats_to_settle == wide.repeats_to_separate(0.01)


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
