"""Tables and verdicts from records whose right answer is known."""

import math

import pytest
from support import RECORDS, STUDY, changed

from lossbench.metrics.uncertainty import estimate
from lossbench.report.tables import failures, mark, number_table, text, text_table, thin_line
from lossbench.results.metric_fields import shown_in
from lossbench.results.study import Study


def test_untrained_comes_last_and_failures_are_counted_and_explained():
    assert STUDY.entrants == ["a", "b", "c", "untrained"]
    headers, rows = text_table(STUDY, shown_in("headline"))
    assert headers[:4] == ["loss", "runs", "batches", "accuracy"]
    by_name = {row[0]: row for row in rows}
    assert by_name["c"][1] == "3 of 4 (75 %)"
    assert by_name["untrained*"][1] == "4"
    assert by_name["a"][3] == "0.902 ± 0.037"
    assert by_name["a"][headers.index("@ 0.001")] == "–"
    assert failures(RECORDS) == ["c, repeat 4, failed in epoch 4: TrainingFailed: the loss became nan"]


def test_text_of_one_repeat_has_no_interval():
    assert text(Study((RECORDS[0],), {}).estimate("untrained", "test_accuracy"), 3) == "0.300"


def test_text_ends_where_the_figure_does():
    near = estimate({0: 0.99, 1: 0.97}, {}, 8)
    assert text(near, 3, (0, 1)) == "0.980 [0.853, 1.000]"
    assert text(estimate({0: 0.2, 1: 0.7}, {}, 8), 3, (0, 1)) == "0.450 [0.000, 1.000]"
    assert text(near, 2) == "0.98 ± 0.13"


def test_number_table_holds_means_and_intervals():
    frame = number_table(STUDY, shown_in("headline")).set_index("loss")
    assert frame.loc["b", "test_accuracy"] == pytest.approx(0.80155)
    assert frame.loc["c", "test_accuracy_n"] == 3
    assert frame.loc["c", "failed"] == 1
    assert frame.loc["c", "survival"] == 0.75
    assert frame.loc["a", "survival"] == 1
    assert math.isnan(frame.loc["a", "tpr@0.001"])


def with_negatives(*counts):
    """The runs of one loss, of which the last has failed."""
    runs = [changed(RECORDS[4], ("metrics", "negatives"), count) for count in counts]
    return Study((*runs, {**RECORDS[4], "status": "failed", "metrics": {"negatives": 100}}), {})


@pytest.mark.parametrize(
    ("counts", "marked"),
    [
        ((10_000,), {}),
        ((9_999,), {0.001: 9}),
        ((999,), {0.01: 9}),  # and 0.001 is not supported
        ((100, 1_500, 20_000), {0.01: 1, 0.001: 1}),
        ((), {}),
    ],
)
def test_points_with_fewer_than_ten_negatives_are_marked_and_explained(counts, marked):
    study, figures = with_negatives(*counts), shown_in("headline", fprs=(0.1, 0.01, 0.001))
    headers, _ = text_table(study, figures)
    assert headers[5:] == [f"{f.column} †" if f.point in marked else f.column for f in figures if f.point is not None]
    assert [mark(f, study.records) for f in figures] == [" †" if f.point in marked else "" for f in figures]
    line = thin_line(figures, study.records)
    assert (line == "") == (not marked)
    assert all(f"ID rate @ FPR {fpr:g} ({fewest})" in line for fpr, fewest in marked.items())
    assert line.count("ID rate") == len(marked)


def test_what_is_not_known_of_an_older_record_is_not_marked():
    assert thin_line(shown_in("headline", "gallery", "transfer"), RECORDS) == ""
