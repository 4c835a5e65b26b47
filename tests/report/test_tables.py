"""Tables and verdicts from records whose right answer is known."""

import math

import pytest
from support import RECORDS, STUDY

from lossbench.report.tables import failures, number_table, text, text_table
from lossbench.results.metric_fields import shown_in
from lossbench.results.study import Study


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
