"""The angle statistics of ArcFace's table 3."""

from collections.abc import Sequence

import numpy as np

from lossbench.report.figures.look import INK, LABEL, Drawn, panels, pens, short_names
from lossbench.results.metric_fields import shown_in
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict

_ROW = 0.19  # inches a loss


def angles(study: Study, found: Sequence[Verdict]) -> Drawn | None:
    """Draw the angle statistics in degrees, a row per loss: a point per repeat, a bar at the mean.

    None where no run has any.
    """
    names, drawn = study.entrants, pens(study)
    measured = {key for record in study.finished for key, value in record["metrics"].items() if value is not None}
    figures = [figure for figure in shown_in("angles") if figure.key in measured]
    if not figures:
        return None
    drawing, axes = panels(1, len(figures), _ROW * len(names) + 0.9, sharey=True)
    for ax, figure in zip(axes, figures, strict=True):
        for row, name in enumerate(names):
            values = np.array([v for v in study.values(name, figure.key).values() if np.isfinite(v)])
            if len(values):
                colour = drawn[name].colour
                ax.plot(values, np.full(len(values), row), "o", color=colour, ms=4.5, mew=0, alpha=0.55)
                ax.plot([values.mean()], [row], "|", color=INK, ms=9, mew=1.4)
        ax.set_title(figure.title)
        ax.set(xlabel="degrees", ylim=(len(names) - 0.4, -0.6))
        ax.locator_params(axis="x", nbins=4)
        ax.margins(x=0.08)
        ax.tick_params(axis="y", length=0)
    query = any(figure.key.startswith("query_") for figure in figures)
    labels = short_names(names)
    axes[0].set_yticks(range(len(names)), [labels[name] for name in names], size=LABEL, color=INK)
    return Drawn(
        drawing,
        "Angles in degrees (ArcFace, table 3): a dot is a repeat, a bar the mean of a loss. W-EC: from a class center "
        "to the mean embedding of its class. Intra: from an embedding to the mean of its person; smaller is tighter. "
        "W-Inter and Inter: from a center or mean to the nearest other one; larger is further apart."
        + " A loss generalises where Intra stays small and Inter large on query, people not seen in training."
        * query,
    )
