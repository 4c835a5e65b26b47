"""Accuracy on people who were trained on against the identification rate on people who were not."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lossbench.losses.plugin import UNTRAINED
from lossbench.report.figures.labels import Box, place_beside
from lossbench.report.figures.look import LABEL, WIDTH, Drawn, Pen, panels, pens, short_names
from lossbench.results.metric_fields import Metric, metric, shown_in
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT = 4.2
_EM = 0.6 * LABEL  # points, a character's width
_ANYWHERE, _NEAR = 9, 2  # how far from its point the name of a loss may stand that is told apart, and that is not

Interval = tuple[float, float, float]  # mean and the ends of its 95 % interval
Cloud = dict[str, tuple[Interval, Interval]]  # of each loss, to the right and upwards


def tradeoff(study: Study, found: Sequence[Verdict]) -> Drawn | None:
    """Draw a point per loss, accuracy upwards and identification rate to the right, with both 95 % intervals.

    None where nobody unseen was measured, or there are no two losses to compare.
    """
    shown = shown_in("highlights", fprs=study.fprs)
    accuracy = metric("test_accuracy_ncm")  # other figures without a rate may be highlighted, too
    upwards = _known(study, accuracy)
    clouds: dict[str, Cloud] = {}
    for rate in shown:
        across = _known(study, rate) if rate.point is not None else {}
        own = {name: (across[name], up) for name, up in upwards.items() if name in across}
        if len(own) > 1:
            clouds[rate.title] = own
    if not clouds:
        return None
    columns = min(2, len(clouds))
    rows = math.ceil(len(clouds) / columns)
    drawing, axes = panels(rows, columns, _HEIGHT * rows, sharey=True)
    drawn = pens(study)
    for ax, (title, cloud) in zip(axes, clouds.items(), strict=False):
        _crosses(ax, cloud, drawn)
        ax.set_xlabel(title)
    for ax, cloud in zip(axes, clouds.values(), strict=False):  # once all share the final limits
        _names(ax, cloud, drawn, ((WIDTH / columns - 0.7) * 72, (_HEIGHT - 0.6) * 72))
    for ax in axes[::columns]:
        ax.set_ylabel(accuracy.title)
    for ax in axes[len(clouds) :]:
        ax.set_axis_off()
    others = not all(pen.named for pen in drawn.values())
    ends = [end for cloud in clouds.values() for one in cloud.values() for interval in one for end in interval[1:]]
    crosses = (
        "Crosses are 95 % intervals over repeats and people. Overlapping crosses decide nothing: the verdicts compare "
        "the losses in pairs."
        if any(map(math.isfinite, ends))
        else "There is one repeat, so no point has an interval: another seed may differ."
    )
    return Drawn(
        drawing,
        "Accuracy on people seen in training (upwards, by class means) against the identification rate on unseen "
        "people (to the right). A loss up and to the left tells the people it was trained on apart well; one down and "
        f"to the right generalises better to others. {crosses} {UNTRAINED} is not shown."
        + " Grey: the other losses, named where there is room."
        * others,
    )


def _known(study: Study, figure: Metric) -> dict[str, Interval]:
    """Return the mean and the interval of a figure for every trained loss that has it."""
    found = {}
    for name in study.trained:
        estimate = study.estimate(name, figure.key)
        if estimate.count and math.isfinite(estimate.mean):
            found[name] = (estimate.mean, *estimate.interval(*figure.limits))
    return found


def _crosses(ax: "Axes", cloud: Cloud, drawn: dict[str, Pen]) -> None:
    for name, ((x, left, right), (y, low, high)) in cloud.items():
        pen = drawn[name]
        width = 1.1 if pen.named else 0.6
        ax.plot([left, right], [y, y], color=pen.colour, lw=width, alpha=0.7, zorder=pen.order)
        ax.plot([x, x], [low, high], color=pen.colour, lw=width, alpha=0.7, zorder=pen.order)
        size = 7.0 if pen.named else 3.5
        ax.plot([x], [y], pen.marker, color=pen.colour, ms=size, mec="white", mew=0.6, zorder=pen.order + 1)


def _names(ax: "Axes", cloud: Cloud, drawn: dict[str, Pen], size: tuple[float, float]) -> None:
    """Name the losses that are told apart, and the others where there is room beside them.

    `size` is that of the axes in points, about.
    """
    ax.set(xlim=ax.get_xlim(), ylim=ax.get_ylim())  # from here on places on the page are fixed
    to_axes = ax.transData + ax.transAxes.inverted()

    def on_page(x: float, y: float) -> tuple[float, float]:
        across, up = to_axes.transform((x, y))
        return float(across) * size[0], float(up) * size[1]

    order = sorted(cloud, key=lambda name: not drawn[name].named)
    names = short_names(order)
    arms = []
    for (x, left, right), (y, low, high) in cloud.values():
        if math.isfinite(left + right + low + high):
            middle, ends = on_page(x, y), (on_page(left, low), on_page(right, high))
            arms.append(Box(ends[0][0], middle[1] - 1, ends[1][0], middle[1] + 1))
            arms.append(Box(middle[0] - 1, ends[0][1], middle[0] + 1, ends[1][1]))
    places = place_beside(
        [on_page(cloud[name][0][0], cloud[name][1][0]) for name in order],
        [(len(names[name]) * _EM + 2, LABEL * 1.15) for name in order],
        Box(0, 0, *size),
        rings=[_ANYWHERE if drawn[name].named else _NEAR for name in order],
        obstacles=arms,
    )
    for name, place in zip(order, places, strict=True):
        if place is None:
            continue
        box, far = place
        centre = ((box.left + box.right) / 2 / size[0], (box.low + box.high) / 2 / size[1])
        leader = {"arrowstyle": "-", "color": drawn[name].colour, "lw": 0.6, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            names[name], (cloud[name][0][0], cloud[name][1][0]), centre, textcoords="axes fraction",
            ha="center", va="center", size=LABEL, color=drawn[name].ink, zorder=6,
            arrowprops=leader if far else None,
            bbox={"facecolor": "white", "alpha": 0.65, "edgecolor": "none", "pad": 0.4},
        )  # fmt: skip
