"""Identification rate against false-positive rate (TAR against FAR)."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from lossbench.metrics import identification_rate
from lossbench.metrics.operating_point import ENOUGH, is_thin
from lossbench.report.figures.look import SOFT, Drawn, Pen, label_ends, lines_line, panels, pens, plain_ticks
from lossbench.results.arrays import read_embeddings
from lossbench.results.metric_fields import at
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict
from lossbench.utils.text import rate_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

_LOWEST, _HIGHEST, _PER_DECADE = 1e-4, 0.2, 8  # false-positive rates of the curve, which holds all points shown
_HEIGHT = 4.6


def tpr_fpr(study: Study, found: Sequence[Verdict]) -> Drawn | None:
    """Draw the identification rate against the false-positive rate; None without negatives.

    The curve is computed from the embeddings, the marked operating points are those of the records.

    Raises:
        RunDamaged: a run's embeddings are missing or damaged.
    """
    lowest, highest = min([_LOWEST, *study.fprs]), max([_HIGHEST, *study.fprs])
    fprs = np.geomspace(lowest, highest, round(1 + _PER_DECADE * np.log10(highest / lowest)))
    rates: dict[str, list[Floats]] = {}
    negatives = []
    for record in study.finished:
        saved = read_embeddings(record)
        query, labels, distractors = (torch.from_numpy(saved[n]) for n in ("query", "query_labels", "distractors"))
        measured = identification_rate(query, labels, distractors, fprs.tolist())
        rates.setdefault(record["entrant"], []).append(measured.tpr.numpy())
        negatives.append(measured.negatives)
    if not min(negatives):
        return None
    drawing, (ax,) = panels(1, 1, _HEIGHT)
    ax.set(xscale="log", xlim=(lowest, highest), ylim=(0, 1.02))
    ax.set(xlabel="false-positive rate (FPR, FAR)", ylabel="identification rate (TPR, TAR)")
    plain_ticks(ax.xaxis)
    fewest, drawn, firsts, lasts = min(negatives), pens(study), {}, {}
    for name, own in rates.items():
        lines = np.stack(own)
        kept = np.isfinite(lines.sum(axis=0))  # a mean over fewer repeats would be another line
        _line(ax, fprs[kept], lines[:, kept], drawn[name])
        if drawn[name].named and kept.any():
            ends = np.flatnonzero(kept)[[0, -1]]
            firsts[name], lasts[name] = ((float(fprs[i]), float(lines[:, i].mean())) for i in ends)
            for fpr in study.fprs:
                values = study.values(name, at("tpr", fpr)).values()
                if sum(not math.isnan(rate) for rate in values) == len(own):
                    _point(ax, fpr, study.mean(name, at("tpr", fpr)), drawn[name], is_thin(fpr, fewest))
    ax.set_xlim(left=min((at for at, _ in firsts.values()), default=lowest))
    _mark_limit(ax, ENOUGH / fewest)
    left = _reach(firsts) >= _reach(lasts)  # the names stand where the lines are apart, and the axis opposite
    if left:
        ax.yaxis.tick_right()
        ax.yaxis.set_label_position("right")
        ax.spines[["left", "right"]].set_visible([False, True])
    label_ends(ax, firsts if left else lasts, drawn, _HEIGHT - 0.6, left=left)
    others = sum(not drawn[name].named for name in rates)
    return Drawn(drawing, _caption(lowest, fewest, max(map(len, rates.values())), others))


def _reach(ends: dict[str, tuple[float, float]]) -> float:
    """Return how far apart the ends of lines are."""
    rates = [rate for _, rate in ends.values()]
    return max(rates, default=0.0) - min(rates, default=0.0)


def _line(ax: "Axes", fprs: Floats, rates: Floats, pen: Pen) -> None:
    """Draw the mean of rates [R, F], and where it tells losses apart the range of the repeats."""
    ax.plot(fprs, rates.mean(axis=0), color=pen.colour, ls=pen.dashes, lw=pen.width, zorder=pen.order)
    if pen.named and len(rates) > 1:
        ax.fill_between(fprs, rates.min(axis=0), rates.max(axis=0), color=pen.colour, alpha=0.07, lw=0)


def _point(ax: "Axes", fpr: float, rate: float, pen: Pen, thin: bool) -> None:
    face = "white" if thin else pen.colour
    ax.plot([fpr], [rate], "o", ms=4.5, mec=pen.colour, mfc=face, zorder=4, clip_on=False)


def _mark_limit(ax: "Axes", limit: float) -> None:
    """Shade the rates that fewer than ten negatives decide."""
    low, high = ax.get_xlim()
    if limit <= low:
        return
    ax.axvspan(low, min(limit, high), color="#f1f1ee", zorder=0)
    ax.axvline(limit, color=SOFT, lw=0.8, ls=(0, (4, 3)), zorder=1)
    ax.annotate(
        f"fewer than {ENOUGH} negatives\nabove the threshold", (min(limit, high), 1.0), (-5, -3),
        textcoords="offset points", xycoords=("data", "axes fraction"), ha="right", va="top", size=7.5, color=SOFT,
    )  # fmt: skip


def _caption(lowest: float, fewest: int, repeats: int, others: int) -> str:
    limit = ENOUGH / fewest
    decided = (
        f"Left of {rate_text(limit, 2)}, where it is shaded and markers are hollow, fewer than {ENOUGH} of {fewest:,} "
        "negatives lie above the threshold, so a handful of pairs decides the order."
        if limit > lowest
        else f"At every rate shown, {ENOUGH} or more of {fewest:,} negatives lie above the threshold."
    )
    return (
        "Identification rate (TAR) on unseen people against the false-positive rate (FAR): higher is better. "
        f"{lines_line(repeats)} Markers are the operating points of the tables. {decided}"
        + (f" Grey lines: {others} other loss{'es' * (others != 1)}." if others else "")
    )
