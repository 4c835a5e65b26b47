"""The one theme of all figures: type, sizes, resolution, grid, and how each loss is drawn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure as Drawing

from lossbench.report.theme import colours
from lossbench.utils.text import rate_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

DPI = 110  # of PNG
DASHES: tuple[Any, ...] = (
    "", (4, 1.5), (1, 1), (3, 1, 1, 1), (5, 1, 1, 1, 1, 1), (2, 2), (6, 2), (1, 3)
)  # fmt: skip


class Drawn(NamedTuple):
    """A figure of the report: its drawing, and what is shown, with which intervals, and what to read from it."""

    drawing: Drawing
    caption: str


def style() -> dict[Any, Any]:
    """Return matplotlib's settings for all figures.

    Bytes repeat, text is kept as text, and nothing is read as a formula: a spec may contain a dollar sign.
    """
    fixed = {"svg.hashsalt": "lossbench", "svg.fonttype": "none", "text.parse_math": False}
    return {**sns.axes_style("ticks"), "axes.grid": True, "grid.alpha": 0.3, "font.size": 9, **fixed}


def panels(rows: int, columns: int, width: float, height: float) -> "tuple[Drawing, list[Axes]]":
    """Return a drawing of so many inches, and its axes row by row."""
    drawing = Drawing(figsize=(width, height), layout="constrained")
    return drawing, list(np.atleast_1d(drawing.subplots(rows, columns)).flat)


def plain_ticks(axis: "Axis") -> None:
    """Label a logarithmic axis 1e-5, 0.1, 1: the default labels are formulas, which are switched off."""
    axis.set_major_formatter(lambda value, _: rate_text(value))
    axis.set_minor_formatter("")


def lines_of(names: Sequence[str]) -> dict[str, Any]:
    """Return what seaborn draws each entrant's line with: colour and dashes, the same in every figure.

    Args:
        names: all entrants of the report.
    """
    dashes = {name: DASHES[i % len(DASHES)] for i, name in enumerate(names)}
    order = {"hue_order": names, "style_order": names}
    return {"hue": "loss", "style": "loss", **order, "palette": colours(names), "dashes": dashes}
