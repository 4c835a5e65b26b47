"""The cosine similarities of pairs of unseen people."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lossbench.losses.plugin import UNTRAINED
from lossbench.report.figures.look import INK, Drawn, panels, short_names
from lossbench.results.arrays import read_embeddings
from lossbench.results.metric_fields import HEADLINE, at
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict
from lossbench.utils.text import rate_text

_ROWS, _COLUMNS = 512, 8192  # of a block of cosines: 16 MiB
_BINS, _FEW = 50, 12  # of -1 to 1; panels that may stand in rows of three
_TALLEST = 2.2  # times the median peak: what is narrower leaves its panel, so that the others can be seen
_SAME, _DIFFERENT = "#0173b2", "#d55e00"
_DASHES = ("-", (0, (5, 1.5)), (0, (2.5, 1.2)), (0, (1, 1)))  # of the operating points, the largest rate first


def similarities(study: Study, found: Sequence[Verdict]) -> Drawn:
    """Draw the cosines of the identification rate's positives and negatives per loss, repeats pooled.

    Raises:
        RunDamaged: a run's embeddings are missing or damaged.
    """
    edges = np.linspace(-1, 1, _BINS + 1)
    counts: dict[str, npt.NDArray[np.int64]] = {}
    for record in study.finished:
        own = similarity_counts(read_embeddings(record), edges)
        counts[record["entrant"]] = counts.get(record["entrant"], 0) + own
    names = [name for name in study.entrants if name in counts]
    columns = min((3, 4) if len(names) <= _FEW else (4,), key=lambda width: -len(names) % width)
    columns = min(columns, len(names))
    rows = math.ceil(len(names) / columns)
    drawing, axes = panels(rows, columns, (1.75 if len(names) <= _FEW else 1.35) * rows + 0.6, sharex=True, sharey=True)
    labels, rates = short_names(names), study.fprs[:HEADLINE]
    for ax, name in zip(axes, names, strict=False):
        shares = counts[name] / np.maximum(counts[name].sum(axis=1, keepdims=True), 1)
        for share, colour, label in zip(shares, (_SAME, _DIFFERENT), ("same person", "different people"), strict=True):
            ax.stairs(share, edges, fill=True, color=colour, alpha=0.3, lw=0, label=label)
            ax.stairs(share, edges, color=colour, lw=1)
        for rate, dashes in zip(rates, _DASHES, strict=False):
            if not math.isnan(threshold := study.estimate(name, at("threshold", rate)).mean):
                label = f"threshold at FPR {rate_text(rate)}"
                ax.axvline(threshold, color=INK, lw=0.9, ls=dashes, label=label)
        ax.set_title(labels[name], color=INK)
        ax.tick_params(axis="y", left=False, labelleft=False)
        ax.grid(axis="y", visible=False)
    for ax in axes[len(names) :]:
        ax.set_axis_off()
    for ax in axes[
        max(0, len(names) - columns) : len(names)
    ]:  # the lowest of every column, where the last row is short
        ax.tick_params(axis="x", labelbottom=True)
    drawing.supxlabel("cosine similarity", size=9, color=INK)
    axes[0].set_xlim(*_range([*counts.values()], edges))
    peaks = [float((own / np.maximum(own.sum(axis=1, keepdims=True), 1)).max()) for own in counts.values()]
    axes[0].set_ylim(0, 1.05 * min(max(peaks), _TALLEST * float(np.median(peaks))))
    axes[0].set_xticks([tick for tick in (-1, -0.5, 0, 0.5, 1) if axes[0].get_xlim()[0] <= tick])
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    drawing.legend([*handles.values()], [*handles], loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    more = f" {UNTRAINED} is the backbone before its first step." if UNTRAINED in names else ""
    several = len({record["repeat"] for record in study.finished}) > 1
    pooled, mean = (", repeats pooled", ", its mean over the repeats") if several else ("", "")
    return Drawn(
        drawing,
        f"Cosine similarities of image pairs of unseen people{pooled}; both areas are the same size. All panels share "
        f"both axes, and a peak may leave its panel. A vertical line is the threshold of an operating point{mean}: "
        "what lies to the right of it is accepted. The more of the blue and the less of the orange area lies there, "
        "the better; a shift of both alike changes nothing." + more,
    )


def _range(counts: Sequence[npt.NDArray[np.int64]], edges: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Return the cosines between which all but a thousandth of each loss's pairs of each kind lie."""
    lows, highs = [], []
    for row in np.concatenate(list(counts)):
        if total := row.sum():
            share = np.cumsum(row) / total
            lows.append(edges[int(np.searchsorted(share, 0.0005))])
            highs.append(edges[min(int(np.searchsorted(share, 0.9995)) + 1, len(edges) - 1)])
    return (float(min(lows)), float(max(highs))) if lows else (-1.0, 1.0)


def similarity_counts(saved: dict[str, npt.NDArray[Any]], edges: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the counts [2, bins] of positives and negatives per bin, in memory that grows with the images alone.

    Args:
        saved: what `read_embeddings` returns.
        edges: [bins + 1], evenly spaced.
    """
    query, other = (
        saved[name] / np.linalg.norm(saved[name], axis=1, keepdims=True) for name in ("query", "distractors")
    )
    labels, numbers = saved["query_labels"], np.arange(len(query))
    counts = np.zeros((2, len(edges) - 1), dtype=np.int64)

    def counted(cosines: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        return np.histogram(np.clip(cosines, -1, 1), len(edges) - 1, (edges[0], edges[-1]))[0]

    for i in range(0, len(query), _ROWS):
        rows = slice(i, i + _ROWS)
        for j in range(0, len(query), _COLUMNS):
            columns = slice(j, j + _COLUMNS)
            cosines = query[rows] @ query[columns].T
            once = numbers[rows, None] < numbers[columns]
            same = labels[rows, None] == labels[columns]
            counts[0] += counted(cosines[once & same])
            counts[1] += counted(cosines[once & ~same])
        for j in range(0, len(other), _COLUMNS):
            counts[1] += counted(query[rows] @ other[j : j + _COLUMNS].T)
    return counts
