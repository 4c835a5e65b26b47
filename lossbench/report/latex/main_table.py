"""The main table of a report in LaTeX, its headings, and the table of ranks."""

import re
from collections.abc import Sequence

from lossbench.report.findings import Findings
from lossbench.report.latex.escape import escaped, number, power
from lossbench.report.latex.table import Table, caption, over, row
from lossbench.report.results import Cell, Column, Results, Row
from lossbench.report.tables import MEANING, thin_line
from lossbench.results.metric_fields import metric

_BY = {"accuracy": "accuracy by"}  # a short heading: scores, class means


def summary_table(findings: Findings, found: Results, label: str) -> Table:
    """Return the main table without cost: each mean above its interval, in bold where no loss is ahead of it."""
    places = [i for i, column in enumerate(found.columns) if column.axis]
    columns = [found.columns[i] for i in places]
    bold = [any(one.cells[i].rank.strip("=") not in ("", "1") for one in found.rows) for i in places]
    with_runs = any(one.finished < one.runs for one in found.rows) or len({one.runs for one in found.rows}) > 1

    def lines(one: Row) -> list[str]:
        own = [one.cells[i] for i in places]
        first = [escaped(one.name) + r"$^*$" * bool(one.mark), *[f"{one.finished} of {one.runs}"] * with_runs]
        means = [_mean(cell, ranked) for cell, ranked in zip(own, bold, strict=True)]
        halves = [rf"{{\scriptsize {number(_short(cell.half))}}}" if cell.half else "" for cell in own]
        below = [row([*[""] * len(first), *halves]), r"\addlinespace[2pt]"]
        return [row([*first, *means]), *(below if any(halves) else [])]

    study, count = findings.study, findings.study.repeats
    below = ", below it the half-width of its 95 % interval, or both ends where the figure can go no further"
    told = [
        f"Losses compared on {study.records[0]['data']}",
        f"Mean over {count} repeats{below}" if count > 1 else "One repeat, which has no interval",
        "Bold: no loss is ahead of it, in columns where one is behind another" if any(bold) else "",
        MEANING,
        thin_line([metric(column.key) for column in columns], study.records),
        "* By nearest class mean: the loss has no class scores" if any(one.mark for one in found.rows) else "",
    ]
    first = ["loss", *["runs"] * with_runs]
    blocks = [[line for one in found.rows if one.trained is kind for line in lines(one)] for kind in (True, False)]
    return Table(caption(told), label, "l" + "c" * (len(first) - 1 + len(columns)), headings(columns, first), blocks)


def rank_table(findings: Findings, found: Results, label: str) -> Table:
    """Return the rank of every trained loss at the figures of the verdicts, with = where it is shared."""
    places = [i for i, column in enumerate(found.columns) if any(one.cells[i].rank for one in found.rows)]
    told = [
        f"Ranks on {findings.study.records[0]['data']}",
        "A rank is 1 plus the number of losses that are ahead; = where it is shared",
        thin_line([metric(found.columns[i].key) for i in places], findings.study.records),
    ]
    lines = [
        row([escaped(one.name), *(one.cells[i].rank or "--" for i in places)]) for one in found.rows if one.trained
    ]
    heads = headings([found.columns[i] for i in places], ["loss"])
    return Table(caption(told), label, "l" + "c" * len(places), heads, [lines])


def headings(columns: Sequence[Column], first: Sequence[str]) -> list[str]:
    """Return two lines of headings, groups above columns, with rules between them.

    Args:
        columns: those of figures.
        first: the headings before them, as LaTeX.
    """
    groups: dict[str, int] = {}
    for column in columns:
        groups[column.group] = groups.get(column.group, 0) + 1
    rules, at = [], len(first) + 1
    for count in groups.values():
        rules.append(rf"\cmidrule(lr){{{at}-{at + count - 1}}}")
        at += count
    titles = [power(column.title.removeprefix("by ")) + r"$^\dagger$" * bool(column.mark) for column in columns]
    above = [over(count, escaped(_BY.get(group, group))) for group, count in groups.items()]
    return [row([*[""] * len(first), *above]), " ".join(rules), row([*first, *titles])] if columns else [row(first)]


def _mean(cell: Cell, bold: bool) -> str:
    text = number(cell.text)
    return rf"\textbf{{{text}}}" if bold and cell.rank.strip("=") == "1" else text


def _short(half: str) -> str:
    """Return an interval with the end of the figure as such: 1, not 1.000."""
    return re.sub(r"\b([01])\.0+(?=[,\]])", r"\1", half)
