"""The angle statistics of ArcFace's table 3."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns

from lossbench.report.figures.look import Drawn, panels
from lossbench.report.theme import colours
from lossbench.results.metric_fields import flat_metrics, shown_in
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict


def angles(study: Study, found: Sequence[Verdict]) -> Drawn:
    """Draw the angle statistics in degrees: a point per repeat, a bar at the mean."""
    rows = []
    for record in study.finished:
        flat = flat_metrics(record)
        for figure in shown_in("angles"):
            degrees = flat.get(figure.key, np.nan)
            rows.append({"loss": record["entrant"], "angle": figure.title, "degrees": degrees})
    frame = pd.DataFrame(rows)
    drawing, axes = panels(2, 3, 11, 0.55 * len(study.entrants) + 2.4)
    for ax, figure in zip(axes, shown_in("angles"), strict=True):
        own = frame[frame["angle"] == figure.title]
        shared = {"x": "degrees", "y": "loss", "order": study.entrants, "ax": ax, "legend": False}
        sns.stripplot(own, hue="loss", palette=colours(study.entrants), jitter=False, alpha=0.6, **shared)
        sns.pointplot(own, color="black", marker="|", markersize=12, linestyle="none", errorbar=None, **shared)
        ax.set(title=figure.title, ylabel="", xlabel="degrees")
    return Drawn(
        drawing, "Angle statistics (ArcFace, table 3). Dots are repeats, bars their mean. Intra: smaller is tighter."
    )
