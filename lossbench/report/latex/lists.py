"""The long tables of a report in LaTeX, cut to what a paper prints: runs, verdicts, and sections of the report."""

import math
from collections.abc import Sequence

from lossbench.report.findings import Findings
from lossbench.report.gains import signed
from lossbench.report.latex.escape import escaped, number
from lossbench.report.latex.main_table import headings
from lossbench.report.latex.table import Table, caption, over, row
from lossbench.report.markup import Part
from lossbench.report.results import Results
from lossbench.report.tables import mark, thin_line
from lossbench.results.metric_fields import Metric, flat_metrics, metric
from lossbench.results.store import Record
from lossbench.results.verdicts import Verdict
from lossbench.utils.text import clipped

_REASON = 60  # characters of why a run has failed


def run_table(findings: Findings, found: Results, label: str) -> Table:
    """Return the headline figures of every run; failed runs with their reason."""
    study = findings.study
    columns = [column for column in found.columns if column.axis]
    figures = [metric(column.key) for column in columns]
    told = [f"Every run on {study.records[0]['data']}", thin_line(figures, study.records)]
    blocks = [[_run(record, figures) for record in study.of_entrant(name)] for name in study.entrants]
    heads = headings(columns, ["loss", "repeat", "epoch"])
    return Table(caption(told), label, "lrr" + "c" * len(figures), heads, blocks, long=True)


def _run(record: Record, figures: Sequence[Metric]) -> str:
    first = [escaped(record["entrant"]), str(record["repeat"] + 1), str(record["epoch"])]
    if record["status"] == "failed":
        return row([*first, over(len(figures), f"failed: {escaped(clipped(record['reason'], _REASON))}", "l")])
    values = flat_metrics(record)
    found = [(values.get(figure.key, math.nan), figure.digits) for figure in figures]
    return row([*first, *("--" if math.isnan(value) else number(f"{value:.{digits}f}") for value, digits in found)])


def verdict_list(findings: Findings, label: str) -> Table:
    """Return the pairs of which one is ahead or that are equivalent, at the figures that the report highlights."""
    records = findings.study.records
    shown = [v for v in findings.verdicts if "highlights" in v.figure.shown]
    blocks = []
    for figure in dict.fromkeys(v.figure for v in shown):
        own = [v for v in shown if v.figure == figure and v.difference.count > 1]
        settled = [v for v in own if v.settled]
        title = escaped(f"{figure.title}{mark(figure, records)}: {len(settled)} of {len(own)} pairs settled")
        blocks.append([over(4, rf"\emph{{{title}}}", "@{}l"), *map(_verdict, settled)])
    told = [
        f"Verdicts on {records[0]['data']}",
        "Paired differences with their 95 % intervals, and p-values adjusted for the number of pairs",
        "Pairs not listed are open at these figures; other figures are not covered",
        thin_line(list(dict.fromkeys(v.figure for v in shown)), records),
    ]
    heads = [row(["pair", "difference", "$p$", "verdict"])]
    return Table(caption(told), label, "lccl", heads, blocks, long=True)


def _verdict(v: Verdict) -> str:
    p = "--" if math.isnan(v.adjusted_p) else "$<$0.001" if v.adjusted_p < 0.001 else f"{v.adjusted_p:.3f}"
    return row([escaped(f"{v.a} − {v.b}"), number(signed(v.difference, True)), p, escaped(v.text)])


def part_table(part: Part | None, label: str) -> Table | None:
    """Return the table of a section of the report, its first column as a heading over its rows; None without one."""
    if part is None:
        return None
    width = len(part.headers) - 1
    blocks = [
        [
            over(width, rf"\emph{{{escaped(first)}}}", "@{}l"),
            *(row([escaped(one[1]), *map(number, one[2:])]) for one in part.rows if one[0] == first),
        ]
        for first in dict.fromkeys(one[0] for one in part.rows)
    ]
    heads = [row([escaped(heading) for heading in part.headers[1:]])]
    return Table(caption([part.title]), label, "l" + "c" * (width - 1), heads, blocks)
