"""Training curves."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.ticker import MaxNLocator

from lossbench.report.figures.look import Drawn, Pen, label_ends, lines_line, panels, pens, plain_ticks
from lossbench.results.history import read_history, relative_losses
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]

_HEIGHT = 3.9


def training_curves(study: Study, found: Sequence[Verdict]) -> Drawn | None:
    """Draw loss relative to the first epoch, and accuracy on val, by epoch; None where nothing was trained.

    Raises:
        RunDamaged: a run's history is damaged.
    """
    curves: dict[str, list[Floats]] = {}
    for record in study.finished:
        if history := read_history(record):
            vals = [line["val_accuracy"] for line in history]
            epochs = [line["epoch"] for line in history]
            curves.setdefault(record["entrant"], []).append(np.array([epochs, relative_losses(history), vals]))
    if not curves:
        return None
    drawing, axes = panels(1, 2, _HEIGHT)
    drawn, losses = pens(study), np.concatenate([curve[1] for own in curves.values() for curve in own])
    known = losses[np.isfinite(losses)]
    if len(known) and known.min() > 0:
        axes[0].set_yscale("log")
        plain_ticks(axes[0].yaxis)
    axes[0].set_title("Training loss over that of the first epoch")
    axes[1].set_title("Accuracy on val")
    last = max(curve[0, -1] for own in curves.values() for curve in own)
    for row, ax in enumerate(axes, start=1):
        ends = {name: _curves(ax, own, row, drawn[name]) for name, own in curves.items()}
        ax.set(xlabel="epoch", xlim=(1, max(2.0, last)))
        if row == 2:
            ax.set_ylim(0, 1.02)
        ax.set_ylim(ax.get_ylim() if ax.get_yscale() == "linear" else with_two_ticks(*ax.get_ylim()))
        ax.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))
        kept = {name: end for name, end in ends.items() if drawn[name].named and np.isfinite(end).all()}
        label_ends(ax, kept, drawn, _HEIGHT - 0.9)
    others = sum(not drawn[name].named for name in curves)
    return Drawn(
        drawing,
        "Training, epoch by epoch. Left: the training loss relative to its first epoch, so that losses of different "
        "scales can be compared in how they fall, not in how low. Right: accuracy on val, the only figure by which an "
        f"epoch may be selected. {lines_line(max(map(len, curves.values())))}"
        + (f" Grey lines: {others} other loss{'es' * (others != 1)}." if others else ""),
    )


def with_two_ticks(low: float, high: float) -> tuple[float, float]:
    """Return the limits of a logarithmic axis, the lower one moved so that two of its labels (`plain_ticks`) are seen.

    Example:
        >>> with_two_ticks(0.6, 1.05), with_two_ticks(0.3, 1.05)
        ((0.5, 1.05), (0.3, 1.05))
    """
    decade = math.floor(math.log10(high))
    labels = sorted((digit * 10.0**power for power in (decade - 1, decade) for digit in (1, 2, 5)), reverse=True)
    return min(low, [label for label in labels if label <= high][1]), high


def _curves(ax: "Axes", own: Sequence[Floats], row: int, pen: Pen) -> tuple[float, float]:
    """Draw the mean of a row of some curves [3, E] over their epochs, and its range; returns where the line ends.

    A mean is drawn as far as all repeats go.
    """
    length = min(curve.shape[1] for curve in own)
    epochs, lines = own[0][0, :length], np.stack([curve[row, :length] for curve in own])
    mean = lines.mean(axis=0)
    ax.plot(epochs, mean, color=pen.colour, ls=pen.dashes, lw=pen.width, zorder=pen.order)
    if pen.named and len(lines) > 1:
        ax.fill_between(epochs, lines.min(axis=0), lines.max(axis=0), color=pen.colour, alpha=0.1, lw=0)
    return float(epochs[-1]), float(mean[-1])
