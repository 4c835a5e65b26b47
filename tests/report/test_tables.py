"""Tables and verdicts from records whose right answer is known."""

import math

import pytest

from lossbench.report.tables import failures, number_table, text, text_table
from lossbench.results.metric_fields import flat_metrics, shown_in
from lossbench.results.study import Study
from lossbench.results.verdicts import verdict_table, verdicts


def record(entrant, repeat, accuracy, tpr=0.5, status="finished", reason=None):
    metrics = {
        "test_accuracy": accuracy,
        "test_accuracy_ncm": accuracy,
        "tpr@0.1": tpr,
        "tpr@0.01": tpr,
        "tpr@0.001": None,
        "query_inter": 60.0,
    }
    return {
        "entrant": entrant, "repeat": repeat, "fold": repeat, "status": status, "reason": reason, "epoch": 4,
        "accuracy_by": "logits" if entrant != "untrained" else "class means", "sampler": "shuffle",
        "split": f"fold {repeat}", "people": {"test": 24, "query": 8},
        "metrics": metrics if status == "finished" else {}, "timings": {"images_per_second": 100.0, "seconds": 5.0},
    }  # fmt: skip


RECORDS = [
    *(record("untrained", r, 0.3) for r in range(4)),
    *(record("a", r, 0.90 + 0.001 * r) for r in range(4)),
    *(record("b", r, 0.80 + 0.001 * r + 0.0001 * (r % 2)) for r in range(4)),
    *(record("c", r, 0.9 + 0.1 * (-1) ** r, tpr=0.5 + 0.1 * (-1) ** r) for r in range(3)),
    record("c", 3, math.nan, status="failed", reason="TrainingFailed: the loss became nan"),
]


STUDY = Study(tuple(RECORDS), {})


def test_flat_metrics_name_every_operating_point():
    flat = flat_metrics(RECORDS[0])
    assert flat["tpr@0.01"] == 0.5
    assert math.isnan(flat["tpr@0.001"])
    assert flat["query_inter"] == 60.0


def test_untrained_comes_last_and_failures_are_counted_and_explained():
    assert STUDY.entrants == ["a", "b", "c", "untrained"]
    headers, rows = text_table(STUDY, shown_in("headline"))
    assert headers[:4] == ["loss", "runs", "batches", "accuracy"]
    by_name = {row[0]: row for row in rows}
    assert by_name["c"][1] == "3 of 4 (75 %)"
    assert by_name["untrained*"][1] == "4"
    assert by_name["a"][3].startswith("0.902 ± 0.002")
    assert by_name["a"][headers.index("@ 0.001")] == "–"
    assert failures(RECORDS) == ["c, repeat 4, failed in epoch 4: TrainingFailed: the loss became nan"]


def test_text_of_one_repeat_has_no_interval():
    assert text(Study((RECORDS[0],), {}).estimate("untrained", "test_accuracy"), 3) == "0.300"


def test_number_table_holds_means_and_half_widths():
    frame = number_table(STUDY, shown_in("headline")).set_index("loss")
    assert frame.loc["b", "test_accuracy"] == pytest.approx(0.80155)
    assert frame.loc["c", "test_accuracy_n"] == 3
    assert frame.loc["c", "failed"] == 1
    assert frame.loc["c", "survival"] == 0.75
    assert frame.loc["a", "survival"] == 1
    assert math.isnan(frame.loc["a", "tpr@0.001"])


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
