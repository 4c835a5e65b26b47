"""The tables of a report as a paper would print them: a file of LaTeX beside every CSV."""

import re

from lossbench.report.disagreements import Disagreed, disagreements_part
from lossbench.report.findings import Findings
from lossbench.report.gains import scale_and_margin, selection_gap
from lossbench.report.latex.lists import part_table, run_table, verdict_list
from lossbench.report.latex.main_table import rank_table, summary_table
from lossbench.report.results import results


def latex_tables(findings: Findings, name: str, apart: Disagreed | None = None) -> dict[str, str]:
    """Return the text of every LaTeX table by the stem of its CSV.

    The summary is the report's main table, without cost. Of runs and verdicts, which can be hundreds of rows, a paper
    prints less than the CSV holds: the headline figures of each run, and the pairs that are settled at the figures that
    the report highlights.

    Args:
        findings: what the report is made of.
        name: of the benchmark, for labels: ``tab:NAME-summary``.
        apart: where the two best losses disagree.
    """
    found, study = results(findings.study, findings.verdicts), findings.study
    made = (
        summary_table(findings, found, label_of(name, "summary")),
        run_table(findings, found, label_of(name, "runs")),
        verdict_list(findings, label_of(name, "verdicts")),
        rank_table(findings, found, label_of(name, "ranks")),
        part_table(scale_and_margin(study), label_of(name, "scale_and_margin")),
        part_table(selection_gap(study), label_of(name, "selection_gap")),
        part_table(disagreements_part(apart), label_of(name, "disagreements")),
    )
    stems = ("summary", "runs", "verdicts", "ranks", "scale_and_margin", "selection_gap", "disagreements")
    return {stem: table.text for stem, table in zip(stems, made, strict=True) if table is not None}


def label_of(*names: str) -> str:
    """Return the label of a table: ASCII letters, digits and hyphens alone.

    Example:
        >>> label_of("my faces", "scale_and_margin")
        'tab:my-faces-scale-and-margin'
    """
    return "tab:" + "-".join(re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") for name in names)
