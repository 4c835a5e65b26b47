"""The table of verdicts as text, from records whose right answer is known."""

import math

import numpy as np
import pytest
from support import RECORDS, STUDY, changed

from lossbench.metrics.uncertainty import Estimate
from lossbench.report.verdicts import verdict_text
from lossbench.results.metric_fields import metric
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict, verdicts

FOUND = verdicts(STUDY)


def rows_of(found, records=RECORDS):
    headers, rows = verdict_text(found, records)
    return [dict(zip(headers, row, strict=True)) for row in rows]


@pytest.mark.parametrize(("pair", "sign"), [(("a", "b"), "+"), (("a", "c"), "−"), (("b", "c"), "−")])
def test_a_row_shows_the_mean_difference_of_its_pair(pair, sign):
    """Over the repeats that both finished: one of c failed."""
    accuracy = {(r["entrant"], r["repeat"]): r["metrics"].get("test_accuracy_ncm") for r in RECORDS}
    both = [(accuracy[pair[0], i], accuracy[pair[1], i]) for i in range(4)]
    mean = np.mean([one - other for one, other in both if one is not None and other is not None])
    row = next(row for row in rows_of(FOUND) if row["pair"] == " − ".join(pair))
    assert row["figure"] == "accuracy (class means)"
    assert row["difference"].startswith(f"{sign}{abs(mean):.3f} ± ")


def test_parts_of_the_error_and_p_are_those_of_the_verdict():
    for row, verdict in zip(rows_of(FOUND), FOUND, strict=True):
        difference = verdict.difference
        for name, variance, freedom in (
            ("seeds", difference.between, difference.between_freedom),
            ("people", difference.shared, difference.shared_freedom),
        ):
            error, shown = row[name].rstrip(")").split(" (")
            assert float(error) == pytest.approx(math.sqrt(variance), abs=5e-5)
            assert float(shown) == pytest.approx(freedom, rel=5e-3)
        assert float(row["p (adjusted)"]) == pytest.approx(verdict.adjusted_p, abs=5e-4)
        assert row["verdict"] == verdict.text


def test_what_would_settle_a_pair_is_said_unless_it_is_settled():
    rows = rows_of(FOUND)
    assert (rows[0]["verdict"], rows[0]["repeats"]) == ("a ahead", "")
    assert [int(row["repeats"]) > 4 for row in rows[1:3]] == [True, True]
    assert int(rows[3]["repeats"]) > 4, "equal means: repeats show that they are equivalent"


def test_pairs_of_one_repeat_need_a_second():
    first = tuple(record for record in RECORDS if record["repeat"] == 0)
    for row in rows_of(verdicts(Study(first, {})), first):
        assert {row[name] for name in ("seeds", "people", "p (adjusted)", "detectable")} == {"–"}
        assert (row["verdict"], row["repeats"]) == ("needs a second repeat", "2")
    assert verdict_text([], RECORDS)[1] == []


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        (Estimate(0.3, 0.04, 1, 0, 7, 2), {"difference": "+0.300 [−1.000, 1.000]"}),
        (Estimate(0.3, 0.04, 1, 0, 7, 2), {"detectable": "no difference: add a repeat"}),
        (Estimate(0.01, 0.0001, 9, 0.01, 7, 5), {"repeats": "needs more people"}),
        (Estimate(0.0199, 0.0025, 9, 0.0, 7, 5), {"repeats": "123"}),
        (Estimate(0.0199, 0.0225, 9, 0.0, 7, 5), {"repeats": "needs more people"}),
    ],
)
def test_what_cannot_be_is_said_in_words(difference, said):
    (found,) = rows_of([Verdict(metric("tpr@0.1"), "a", "b", difference, 0.5, 0.05)])
    assert {name: found[name] for name in said} == said


def test_thin_points_are_marked():
    records = [changed(record, ("metrics", "negatives"), 150) for record in RECORDS if record["metrics"]]
    assert {row["figure"] for row in rows_of(FOUND, records) if "†" in row["figure"]} == {"ID rate @ FPR 0.01 †"}
