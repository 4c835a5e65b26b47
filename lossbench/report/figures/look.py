"""The one theme of all figures: type, sizes, grid, how each loss is drawn, and labels beside what they name."""

import math
from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure as Drawing

from lossbench.losses.plugin import UNTRAINED
from lossbench.report.figures.labels import spread
from lossbench.report.theme import OTHERS, colours_of, inked
from lossbench.results.study import Study
from lossbench.utils.text import rate_text, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

WIDTH = 9.0  # of every figure, in inches
INK, SOFT = "#1b1b19", "#5a5a55"  # the page's
LABEL = 8.0  # points, of the names of losses
_LONGEST = 26  # characters of such a name
_DASHES: tuple[Any, ...] = (
    "-", (0, (5, 1.5)), (0, (1.2, 1)), (0, (4, 1, 1, 1)), (0, (4, 1, 1, 1, 1, 1)), (0, (2.5, 1.2)), (0, (8, 1.5)),
    (0, (8, 1.5, 1.5, 1.5)),
)  # fmt: skip
_MARKERS = "osD^vPX*"


class Drawn(NamedTuple):
    """A figure of the report: its drawing, and what is shown, with which intervals, and what to read from it."""

    drawing: Drawing
    caption: str


class Pen(NamedTuple):
    """How a loss is drawn in every figure. `named`: it is told apart; the others are thin grey lines."""

    colour: str
    dashes: Any
    marker: str
    named: bool

    @property
    def ink(self) -> str:
        """The colour of its name, dark enough to read."""
        return inked(self.colour)

    @property
    def width(self) -> float:
        """Of its lines, in points."""
        return 1.6 if self.named else 0.7

    @property
    def order(self) -> int:
        """What lies above what."""
        return 3 if self.named else 2


def style() -> dict[Any, Any]:
    """Return matplotlib's settings for all figures.

    Bytes repeat, text is kept as text, and nothing is read as a formula: a spec may contain a dollar sign.
    """
    fixed = {"svg.hashsalt": "lossbench", "svg.fonttype": "none", "text.parse_math": False}
    text = {"font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titlelocation": "left"}
    text |= {"axes.labelsize": 9, "xtick.labelsize": 8, "ytick.labelsize": 8, "axes.titleweight": "bold"}
    inks = dict.fromkeys(("text.color", "axes.labelcolor", "axes.titlecolor"), INK)
    lines = {"axes.edgecolor": "#8a8a84", "xtick.color": "#8a8a84", "ytick.color": "#8a8a84", "axes.linewidth": 0.8}
    lines |= {"xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT, "xtick.major.size": 3, "ytick.major.size": 3}
    lines |= {"axes.spines.top": False, "axes.spines.right": False, "xtick.minor.size": 2, "ytick.minor.size": 2}
    grid = {"axes.grid": True, "grid.color": "#e4e4df", "grid.linewidth": 0.7, "axes.axisbelow": True}
    grid |= {"figure.constrained_layout.w_pad": 0.08, "figure.constrained_layout.h_pad": 0.08}  # inches
    return {**sns.axes_style("ticks"), **text, **inks, **lines, **grid, **fixed}


def panels(rows: int, columns: int, height: float, **options: Any) -> "tuple[Drawing, list[Axes]]":
    """Return a drawing of the width of all figures and a height in inches, and its axes row by row."""
    drawing = Drawing(figsize=(WIDTH, height), layout="constrained")
    return drawing, list(np.atleast_1d(drawing.subplots(rows, columns, **options)).flat)


def plain_ticks(axis: "Axis") -> None:
    """Label a logarithmic axis 1e-5, 0.1, 1: the default labels are formulas, which are switched off.

    Where it spans no more than two decades, 0.2 and 0.5 are labelled, too.
    """

    def between(value: float, _: float) -> str:
        low, high = axis.get_view_interval()
        leading = round(value / 10 ** math.floor(math.log10(value) + 1e-9))
        return rate_text(value) if leading in (2, 5) and high <= 100 * low else ""

    axis.set_major_formatter(lambda value, _: rate_text(value))
    axis.set_minor_formatter(between)


def pens(study: Study) -> dict[str, Pen]:
    """Return how each entrant is drawn; `untrained` is named too, dotted and grey."""
    found, place = {}, 0
    for name, colour in colours_of(study).items():
        named = colour != OTHERS
        dashes: Any = (0, (1, 1.6)) if name == UNTRAINED else _DASHES[place] if named else "-"
        found[name] = Pen(colour, dashes, "." if name == UNTRAINED else _MARKERS[place] if named else "o", named)
        place += named and name != UNTRAINED
    return found


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Return the entrants' names as labels: long ones without their middle, as long as that leaves them apart.

    Control characters are escaped: in SVG they would make the file unreadable.

    Example:
        >>> short_names(["ce", "arcface:margin=0.3:scale=64.0+0.5*triplet"])["ce"]
        'ce'
    """
    half, whole = _LONGEST // 2, {name: shown(name) for name in names}
    short = {n: text if len(text) <= _LONGEST else f"{text[: half - 1]}…{text[-half:]}" for n, text in whole.items()}
    return short if len(set(short.values())) == len(short) else whole


def title(ax: "Axes", name: str, measured: str = "") -> None:
    """Write a loss's name above its panel, and below it what was measured of it, smaller."""
    size = None if len(name) <= _LONGEST - 6 else 8
    whole = "\n".join(wrap(name, _LONGEST + 2)[:3])  # a name that cannot be shortened must not run over other panels
    ax.set_title(whole, loc="left", pad=16 if measured else None, fontsize=size)
    ax.text(0, 1.02, measured, transform=ax.transAxes, fontsize=8, color=SOFT, va="bottom")


def lines_line(repeats: int) -> str:
    """Return what lines and bands of a figure are, where no loss has more than so many repeats."""
    if repeats > 1:
        return "Lines are means over the repeats; bands are their range."
    return "There is one repeat, so there are no bands: another seed may differ."


def label_ends(
    ax: "Axes", ends: Mapping[str, tuple[float, float]], drawn: Mapping[str, Pen], height: float, *, left: bool = False
) -> None:
    """Write the names of lines beside the axes, at the height of their ends, with a leader where they had to move.

    Args:
        ax: with its final limits.
        ends: where each line ends, in data.
        drawn: the pens.
        height: of the axes in inches, about.
        left: names stand left of the axes, at the lines' first points.
    """
    names, gap = short_names(list(ends)), LABEL * 1.25 / 72 / height
    at = [float(ax.transAxes.inverted().transform(ax.transData.transform(end))[1]) for end in ends.values()]
    for (name, end), y in zip(ends.items(), spread(at, gap, 0.0, 1.0), strict=True):
        ax.annotate(
            names[name], end, (-0.035 if left else 1.035, y), textcoords="axes fraction",
            ha="right" if left else "left", va="center", color=drawn[name].ink, size=LABEL,
            arrowprops={"arrowstyle": "-", "color": drawn[name].colour, "lw": 0.6, "shrinkA": 1, "shrinkB": 1,
                        "relpos": (float(left), 0.5)},
            annotation_clip=False,
        )  # fmt: skip
