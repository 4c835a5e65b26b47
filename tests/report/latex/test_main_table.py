"""The main table in LaTeX: the page's numbers, and bold where a verdict speaks for it."""

import re

import pytest
from support import REPORTED, SETTINGS, STUDY, changed

from lossbench.report.findings import Findings
from lossbench.report.latex.main_table import headings, rank_table, summary_table
from lossbench.report.results import Column, results
from lossbench.results.study import Study
from lossbench.results.verdicts import verdicts


def findings_of(runs=REPORTED):
    study = Study(tuple(runs), {})
    return Findings(SETTINGS, study, verdicts(study), [])


def lines_of(make, findings):
    found = results(findings.study, findings.verdicts)
    text = make(findings, found, "tab:a").text
    body = text[text.index(r"\midrule") :].splitlines()
    return text, {line.split(" & ")[0]: line.removesuffix(r" \\").split(" & ")[1:] for line in body if " & " in line}


def test_means_are_those_of_the_page_and_intervals_stand_below():
    findings = findings_of()
    text, lines = lines_of(summary_table, findings)
    page = {one.name: one for one in results(findings.study, findings.verdicts).rows}
    assert list(lines) == ["a", "", "b", "c", "untrained$^*$"]
    assert [re.sub(r"\\textbf\{(.*)\}", r"\1", cell) for cell in lines["b"][1:3]] == [
        c.text for c in page["b"].cells[:2]
    ]
    half = page["a"].cells[1].half.removeprefix("± ")
    assert rf"{{\scriptsize $\pm$ {half}}}" in text
    assert text.index("b & ") < text.index(r"untrained$^*$")


def test_bold_is_who_nobody_is_ahead_of_where_anybody_is():
    _, lines = lines_of(summary_table, findings_of())
    assert lines["a"][2].startswith(r"\textbf{0.90")
    assert r"\textbf" not in lines["b"][2]
    assert r"\textbf{0.9" in lines["c"][2], "nobody is ahead of it: a shared rank"
    assert not any(r"\textbf" in cells[1] for cells in lines.values()), "accuracy by scores has no verdict"
    assert not any(r"\textbf" in cells[3] for cells in lines.values()), "nobody is ahead in this column"
    assert not any(r"\textbf" in cell for cell in lines["untrained$^*$"])


def test_runs_are_shown_where_some_have_failed():
    text, lines = lines_of(summary_table, findings_of())
    assert [cells[0] for cells in lines.values() if cells[0]] == ["4 of 4", "4 of 4", "3 of 4", "4 of 4"]
    text, _ = lines_of(summary_table, findings_of([run for run in REPORTED if run["entrant"] in "ab"]))
    assert " of 4" not in text


def test_one_repeat_has_no_intervals_and_no_bold():
    text, _ = lines_of(summary_table, findings_of([run for run in REPORTED if run["repeat"] == 0]))
    assert r"\scriptsize" not in text
    assert r"\textbf" not in text
    assert "One repeat, which has no interval." in text


def test_thin_points_are_marked_and_explained():
    runs = [changed(run, ("metrics", "negatives"), 500) if run["metrics"] else run for run in REPORTED]
    text, _ = lines_of(summary_table, findings_of(runs))
    assert r"0.01$^\dagger$" in text
    assert r"$^\dagger$ thin: fewer than 10 negatives" in text
    assert r"0.1$^\dagger$" not in text


def test_ranks_are_shared_and_unknown_ones_are_a_dash():
    _, lines = lines_of(rank_table, findings_of())
    assert lines["a"][0] == "1="
    assert lines["b"][0] == "2"
    assert "untrained" not in lines
    alone = [run for run in REPORTED if run["entrant"] != "c" or run["repeat"] == 0]
    assert lines_of(rank_table, findings_of(alone))[1]["c"][0] == "--"


def test_headings_have_groups_with_rules_of_their_width():
    columns = [Column("x", "accuracy", "by scores", "", ""), *(Column("y", "ID", r, "†", "") for r in ("0.1", "1e-5"))]
    above, rules, titles = headings(columns, ["loss", "runs"])
    assert above == r" &  & \multicolumn{1}{c}{accuracy by} & \multicolumn{2}{c}{ID}"
    assert rules == r"\cmidrule(lr){3-3} \cmidrule(lr){4-5}"
    assert titles == r"loss & runs & scores & 0.1$^\dagger$ & $10^{-5}$$^\dagger$"
    assert headings([], ["loss"]) == ["loss"]


@pytest.mark.parametrize("count", [1, 12])
def test_many_losses_fill_pages(count):
    runs = [{**run, "entrant": f"{run['entrant']}{i}"} for i in range(count) for run in STUDY.records]
    assert (r"\begin{longtable}" in lines_of(summary_table, findings_of(runs))[0]) == (count > 1)
