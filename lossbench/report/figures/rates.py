"""Identification rate against false-positive rate (TAR against FAR)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from lossbench.metrics import identification_rate
from lossbench.metrics.operating_point import ENOUGH, is_thin
from lossbench.report.figures.look import SOFT, Drawn, Pen, label_ends, panels, pens, plain_ticks
from lossbench.results.arrays import read_embeddings
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict
from lossbench.utils.text import rate_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

_LOWEST, _HIGHEST, _PER_DECADE = 1e-4, 0.5, 10  # false-positive rates of the curve; it goes down to the points shown
_HEIGHT = 4.6


def tpr_fpr(study: Study, found: Sequence[Verdict]) -> Drawn | None:
    """Draw the identification rate against the false-positive rate, from the embeddings; None without negatives.

    Raises:
        RunDamaged: a run's embeddings are missing or damaged.
    """
    lowest = min([_LOWEST, *study.fprs])
    curve = np.geomspace(lowest, _HIGHEST, round(1 + _PER_DECADE * np.log10(_HIGHEST / lowest)))
    fprs = np.concatenate([curve, study.fprs])
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
    ax.set(xscale="log", xlim=(lowest, _HIGHEST), ylim=(0, 1.02))
    ax.set(xlabel="false-positive rate (FPR, FAR)", ylabel="identification rate (TPR, TAR)")
    plain_ticks(ax.xaxis)
    fewest, drawn, firsts, lasts = min(negatives), pens(study), {}, {}
    for name, own in rates.items():
        lines = np.stack(own)
        kept = np.isfinite(lines.sum(axis=0))  # a mean over fewer repeats would be another line
        on_curve = np.flatnonzero(kept[: len(curve)])
        _line(ax, fprs[on_curve], lines[:, on_curve], drawn[name])
        if drawn[name].named and len(on_curve):
            firsts[name], lasts[name] = ((float(fprs[i]), float(lines[:, i].mean())) for i in on_curve[[0, -1]])
            for i in np.flatnonzero(kept[len(curve) :]) + len(curve):
                _point(ax, fprs[i], lines[:, i].mean(), drawn[name], is_thin(fprs[i], fewest))
    ax.set_xlim(left=min((at for at, _ in firsts.values()), default=lowest))
    _mark_limit(ax, ENOUGH / fewest)
    left = _reach(firsts) >= _reach(lasts)  # the names stand where the lines are apart, and the axis opposite
    if left:
        ax.yaxis.tick_right()
        ax.yaxis.set_label_position("right")
        ax.spines[["left", "right"]].set_visible([False, True])
    label_ends(ax, firsts if left else lasts, drawn, _HEIGHT - 0.6, left=left)
    return Drawn(drawing, _caption(lowest, fewest, [name for name, pen in drawn.items() if not pen.named]))


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
    ax.plot([fpr], [rate], "o", ms=4.5, mec=pen.colour, mfc=face, zorder=4)


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


def _caption(lowest: float, fewest: int, others: Sequence[str]) -> str:
    limit = ENOUGH / fewest
    decided = (
        f"Left of {rate_text(limit, 2)}, where it is shaded and markers are hollow, fewer than {ENOUGH} of {fewest:,} "
        "negatives lie above the threshold, so a handful of pairs decides the order."
        if limit > lowest
        else f"At every rate shown, {ENOUGH} or more of {fewest:,} negatives lie above the threshold."
    )
    return (
        "Identification rate (TAR) on unseen people against the false-positive rate (FAR): higher is better. Lines are "
        f"means, bands the range of the repeats, markers the operating points of the tables. {decided}"
        + (f" Grey lines: the other {len(others)} losses." if others else "")
    )
