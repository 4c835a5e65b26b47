"""Figures and verdicts side by side, as text, as numbers and as LaTeX."""

import pytest
from support import REPORTED, compared, renamed

from lossbench.report.compare.tables import (
    change_part,
    figure_frame,
    figure_parts,
    figure_tex,
    verdict_frame,
    verdict_tex,
)

TURNED = compared(x=REPORTED, y=renamed({"a": "b", "b": "a"}))


def test_figures_have_a_row_per_loss_and_a_mean_and_a_rank_per_benchmark():
    (part,) = (part for part in figure_parts(TURNED) if part.title == "accuracy (class means)")
    assert part.headers == ["loss", "x", "rank", "y", "rank"]
    rows = {row[0]: row[1:] for row in part.rows}
    assert list(rows) == ["a", "b", "c"]
    assert rows["a"][0].startswith("0.902 ± ")
    assert rows["b"][2].startswith("0.902 ± ")
    assert (rows["a"][1], rows["a"][3]) == (rows["b"][3], rows["b"][1])
    (part,) = (part for part in figure_parts(TURNED) if part.title == "accuracy")
    assert {row[2] for row in part.rows} == {"–"}, "there is no verdict on it"


def test_verdicts_that_change_stand_with_both_differences():
    part = change_part(TURNED)
    first = part.rows[0]
    assert first[:2] == ["accuracy (class means)", "a − b"]
    assert first[2].startswith("a ahead (+0.100 ± ")
    assert first[3].startswith("b ahead (−0.100 ± ")
    assert first[4] == "reversed"
    assert change_part(compared(x=REPORTED, y=REPORTED)).text == ("No verdict changes.",)
    alone = change_part(compared(x=REPORTED, y=[run for run in REPORTED if run["repeat"] == 0]))
    assert alone.text[0].startswith("No verdict can be compared yet: y ")


def test_numbers_are_a_row_per_benchmark():
    figures, found = figure_frame(TURNED), verdict_frame(TURNED)
    own = figures[(figures.figure == "test_accuracy_ncm") & (figures.loss == "a")]
    assert list(own.benchmark) == ["x", "y"]
    assert list(own["mean"]) == pytest.approx([0.9015, 0.80155])
    assert (own.low < own["mean"]).all()
    pair = found[(found.figure == "test_accuracy_ncm") & (found.a == "a") & (found.b == "b")]
    assert list(pair.difference) == pytest.approx([0.09995, -0.09995])
    assert (pair.difference_low < pair.difference).all()
    assert (pair.difference < pair.difference_high).all()
    assert list(pair.verdict) == ["a ahead", "b ahead"]
    assert set(pair.change) == {"reversed"}


def test_latex_has_a_column_per_benchmark_and_bold_where_one_is_behind():
    text = figure_tex(TURNED, "tab:a")
    lines = text[text.index("accuracy (class means)") :].splitlines()
    assert lines[1].startswith(r"a & \textbf{0.902} $\pm$ ")
    assert r"\textbf" not in lines[1].split(" & ")[2]
    assert r"\begin{tabular}{@{}lcc@{}}" in text
    changes = verdict_tex(TURNED, "tab:b")
    assert r"a $-$ b & $>$ +0.100 $\pm$ " in changes
    assert "No verdict changes." in verdict_tex(compared(x=REPORTED, y=REPORTED), "tab:b")
