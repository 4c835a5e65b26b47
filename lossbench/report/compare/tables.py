"""The tables of a comparison: figures side by side, verdicts side by side; as text, as numbers and as LaTeX."""

import math
from typing import TYPE_CHECKING

from lossbench.report.compare.changes import sentences
from lossbench.report.compare.comparison import Change, Comparison, Pair, State
from lossbench.report.gains import signed
from lossbench.report.latex.escape import escaped, number
from lossbench.report.latex.table import Table, caption, over, row
from lossbench.report.markup import Part
from lossbench.report.results import shared_ranks
from lossbench.report.tables import mark, text, thin_line
from lossbench.results.metric_fields import Metric
from lossbench.utils.text import listed

if TYPE_CHECKING:
    import pandas as pd

_ORDER: tuple[Change, ...] = ("reversed", "ahead or equivalent", "ahead or open", "equivalent or open")
_SAID: dict[State, str] = {"equivalent": "equivalent", "open": "not separable", "unknown": "–"}
_SIGNS: dict[State, str] = {
    "ahead": "$>$", "behind": "$<$", "equivalent": r"$\approx$", "open": r"$\cdot$", "unknown": "",
}  # fmt: skip
_Ranks = dict[tuple[str, str], str]


def figure_parts(comparison: Comparison) -> list[Part]:
    """Return a table per figure: a row per loss, its mean and its rank in every benchmark."""
    headers = ["loss", *(head for label in comparison.labels for head in (label, "rank"))]
    parts, ranks = [], _ranks(comparison)
    for figure in _by_rate(comparison):
        rows = [
            [name, *(cell for pair in _cells(comparison, ranks, figure, name) for cell in pair)]
            for name in comparison.losses
        ]
        parts.append(Part(figure.title + mark(figure, comparison.everything.records), (), headers, rows))
    return parts


def change_part(comparison: Comparison) -> Part:
    """Return the verdicts that are not the same in all benchmarks, each with its difference, row by row."""
    rows = [
        [p.figure.title, f"{p.a} − {p.b}", *(_verdict(p, i) for i in range(len(comparison.benchmarks))), p.change]
        for p in _changed(comparison)
    ]
    if not rows:
        unknown = all(pair.change == "unknown" for pair in comparison.pairs)
        return Part("Verdicts that change", (sentences(comparison)[0] if unknown else "No verdict changes.",))
    told = "Differences are first minus second loss, with 95 % intervals; each benchmark's are those of its own report."
    return Part("Verdicts that change", (told,), ["figure", "pair", *comparison.labels, "change"], rows)


def figure_frame(comparison: Comparison) -> "pd.DataFrame":
    """Return every figure as numbers: one row per loss, figure and benchmark."""
    import pandas as pd

    rows = []
    for one, ranks in zip(comparison.benchmarks, _ranks(comparison), strict=True):
        for figure in comparison.figures:
            for name in comparison.losses:
                found = one.study.estimate(name, figure.key)
                low, high = found.interval(*figure.limits)
                first = {"benchmark": one.label, "figure": figure.key, "loss": name, "mean": found.mean}
                rank = ranks.get((name, figure.key), "").rstrip("=")
                rows.append({**first, "low": low, "high": high, "repeats": found.count, "rank": rank})
    return pd.DataFrame(rows)


def verdict_frame(comparison: Comparison) -> "pd.DataFrame":
    """Return every verdict as numbers: one row per pair, figure and benchmark, with how it changes."""
    import pandas as pd

    rows = []
    for pair in comparison.pairs:
        for label, v in zip(comparison.labels, pair.verdicts, strict=True):
            if v is None:
                continue
            sign = 1 if v.a == pair.a else -1
            low, high = sorted(sign * end for end in v.interval)
            first = {"figure": pair.figure.key, "a": pair.a, "b": pair.b, "change": pair.change, "benchmark": label}
            numbers = {"difference": sign * v.difference.mean, "difference_low": low, "difference_high": high}
            rows.append({**first, **numbers, "p_adjusted": v.adjusted_p, "verdict": v.text})
    return pd.DataFrame(rows)


def figure_tex(comparison: Comparison, label: str) -> str:
    """Return the figures side by side in LaTeX: a block per figure, a column per benchmark."""
    count, blocks, ranks = len(comparison.benchmarks), [], _ranks(comparison)
    for figure in _by_rate(comparison):
        title = escaped(figure.title + mark(figure, comparison.everything.records))
        cells = {name: _cells(comparison, ranks, figure, name) for name in comparison.losses}
        led = [any(own[i][1].rstrip("=") not in ("", "–", "1") for own in cells.values()) for i in range(count)]
        lines = [
            row([escaped(name), *(_bold(*cell, led=one) for cell, one in zip(own, led, strict=True))])
            for name, own in cells.items()
        ]
        blocks.append([over(count + 1, rf"\emph{{{title}}}", "@{}l"), *lines])
    told = [
        f"{listed(comparison.labels)} side by side",
        "Means with their 95 % intervals",
        "Bold: no loss compared is ahead of it, where one is behind another",
        thin_line(comparison.figures, comparison.everything.records),
    ]
    heads = [row(["loss", *map(escaped, comparison.labels)])]
    return Table(caption(told), label, "l" + "c" * count, heads, blocks).text


def verdict_tex(comparison: Comparison, label: str) -> str:
    """Return the verdicts that change in LaTeX: a block per figure, a column per benchmark."""
    count, changed = len(comparison.benchmarks), _changed(comparison)
    blocks = []
    for figure in dict.fromkeys(pair.figure for pair in changed):
        own = [pair for pair in changed if pair.figure == figure]
        lines = [row([escaped(f"{p.a} − {p.b}"), *(_signed(p, i) for i in range(count))]) for p in own]
        blocks.append([over(count + 1, rf"\emph{{{escaped(figure.title)}}}", "@{}l"), *lines])
    told = [
        "Verdicts that change" if blocks else "No verdict changes",
        "Differences are first minus second loss, with their 95 % intervals",
    ]
    signs = r" $>$: the first is ahead; $<$: the second; $\approx$: equivalent; $\cdot$: not separable."
    heads = [row(["pair", *map(escaped, comparison.labels)])]
    return Table(caption(told) + signs, label, "l" + "l" * count, heads, blocks, long=True).text


def _signed(pair: Pair, i: int) -> str:
    difference = _difference(pair, i)
    return f"{_SIGNS[pair.states[i]]} {number(difference)}" if difference else "--"


def _by_rate(comparison: Comparison) -> list[Metric]:
    return sorted(comparison.figures, key=lambda figure: figure.point is None)


def _ranks(comparison: Comparison) -> list[_Ranks]:
    """Return the ranks among the losses compared, in every benchmark."""
    return [shared_ranks(one.verdicts) for one in comparison.benchmarks]


def _cells(comparison: Comparison, ranks: list[_Ranks], figure: Metric, name: str) -> list[tuple[str, str]]:
    """Return a loss's mean with its interval, and its rank, in every benchmark."""
    found = (one.study.estimate(name, figure.key) for one in comparison.benchmarks)
    return [
        (text(estimate, figure.digits, figure.limits), own.get((name, figure.key), "–"))
        for estimate, own in zip(found, ranks, strict=True)
    ]


def _bold(mean: str, rank: str, *, led: bool) -> str:
    first, *interval = mean.split(" ", 1)
    shown = rf"\textbf{{{number(first)}}}" if led and rank.rstrip("=") == "1" else number(first)
    return " ".join([shown, *map(number, interval)])


def _changed(comparison: Comparison) -> list[Pair]:
    return sorted((p for p in comparison.pairs if p.change in _ORDER), key=lambda p: _ORDER.index(p.change))


def _verdict(pair: Pair, i: int) -> str:
    """Return what a benchmark says of a pair: who is ahead, and the difference."""
    state, difference = pair.states[i], _difference(pair, i)
    said = {"ahead": f"{pair.a} ahead", "behind": f"{pair.b} ahead"}.get(state) or _SAID[state]
    return f"{said} ({difference})" if difference else "–"


def _difference(pair: Pair, i: int) -> str:
    """Return the first loss minus the second with its interval; empty where a benchmark has none."""
    v = pair.verdicts[i]
    if v is None or math.isnan(v.difference.mean):
        return ""
    return signed(v.difference if v.a == pair.a else v.difference.reversed, True)
