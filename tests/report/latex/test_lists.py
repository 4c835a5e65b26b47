"""Runs, verdicts and sections in LaTeX: what a paper prints of long tables."""

from support import REPORTED, SETTINGS, changed

from lossbench.report.findings import Findings
from lossbench.report.latex.lists import part_table, run_table, verdict_list
from lossbench.report.markup import Part
from lossbench.report.results import results
from lossbench.results.study import Study
from lossbench.results.verdicts import verdicts


def findings_of(runs=REPORTED):
    study = Study(tuple(runs), {})
    return Findings(SETTINGS, study, verdicts(study), [])


def rows_of(text):
    body = text[text.index(r"\endfoot") :] if r"\endfoot" in text else text[text.index(r"\midrule") :]
    return [line.removesuffix(r" \\").split(" & ") for line in body.splitlines() if " & " in line]


def test_every_run_has_a_row_and_failed_ones_their_reason():
    reason = "TrainingFailed: " + "x" * 100 + r"\end{document}"
    runs = [changed(run, ("reason",), reason) if run["reason"] else run for run in REPORTED]
    findings = findings_of(runs)
    text = run_table(findings, results(findings.study, findings.verdicts), "tab:a").text
    rows = rows_of(text)
    assert [(row[0], row[1]) for row in rows] == [
        (name, str(i)) for name in ("a", "b", "c", "untrained") for i in range(1, 5)
    ]
    assert rows[0][2:] == ["4", "0.900", "0.900", "0.500", "0.500", "--"]
    assert rows[11][3].startswith(r"\multicolumn{5}{l}{failed: TrainingFailed: xxx")
    assert "document" not in text


def test_verdicts_are_the_settled_pairs_of_the_highlights():
    findings = findings_of()
    rows = rows_of(verdict_list(findings, "tab:a").text)
    settled = [v for v in findings.verdicts if v.settled and "highlights" in v.figure.shown]
    assert [row[0] for row in rows] == [f"{v.a} $-$ {v.b}" for v in settled]
    assert rows[0][3] == "a ahead"
    assert all(row[2] == "$<$0.001" or 0 <= float(row[2]) <= 1 for row in rows)
    text = verdict_list(findings, "tab:a").text
    own = [v for v in settled if v.figure.key == "test_accuracy_ncm"]
    assert 0 < len(own) < 3
    assert rf"\multicolumn{{4}}{{@{{}}l}}{{\emph{{accuracy (class means): {len(own)} of 3 pairs settled}}}}" in text


def test_the_caption_of_verdicts_speaks_of_its_own_figures_alone():
    text = verdict_list(findings_of(), "tab:a").text
    assert "All other pairs" not in text, "verdicts.csv has more figures, at which pairs may be equivalent"
    assert "Pairs not listed are open at these figures; other figures are not covered." in text


def test_a_section_is_a_table_with_minus_signs():
    part = Part("Scale & margin", (), ["figure", "loss", "gain"], [["ID rate", "arcface_x", "-0.012 ± 0.030"]])
    text = part_table(part, "tab:a").text
    assert rows_of(text) == [[r"arcface\_x", r"$-$0.012 $\pm$ 0.030"]]
    assert r"\multicolumn{2}{@{}l}{\emph{ID rate}} \\" in text
    assert r"loss & gain \\" in text
    assert r"\caption{Scale \& margin.}" in text
    assert part_table(None, "tab:a") is None
