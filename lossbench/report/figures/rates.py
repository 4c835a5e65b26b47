"""Identification rate against false-positive rate (TAR against FAR)."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
import torch

from lossbench.metrics import identification_rate
from lossbench.metrics.operating_point import is_thin
from lossbench.report.figures.look import Drawn, lines_of, panels, plain_ticks
from lossbench.results.arrays import read_embeddings
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict

_LOWEST, _HIGHEST, _PER_DECADE = 1e-4, 0.5, 6.5  # false-positive rates of the curve; it goes down to the points shown


def tpr_fpr(study: Study, found: Sequence[Verdict]) -> Drawn:
    """Draw the identification rate against the false-positive rate, from the embeddings.

    Raises:
        RunDamaged: a run's embeddings are missing or damaged.
    """
    points, chosen = [], study.fprs
    lowest = min([_LOWEST, *chosen])
    count = round(1 + _PER_DECADE * np.log10(_HIGHEST / lowest))
    curve = np.logspace(np.log10(lowest), np.log10(_HIGHEST), count).tolist()
    for record in study.finished:
        saved = read_embeddings(record)
        query, labels, distractors = (torch.from_numpy(saved[n]) for n in ("query", "query_labels", "distractors"))
        rates = identification_rate(query, labels, distractors, [*curve, *chosen])
        for i, (fpr, tpr) in enumerate(zip(rates.fpr.tolist(), rates.tpr.tolist(), strict=True)):
            thin = is_thin(fpr, rates.negatives)
            points.append({"loss": record["entrant"], "fpr": fpr, "tpr": tpr, "chosen": i >= len(curve), "thin": thin})
    frame = pd.DataFrame(points).dropna()
    drawing, (ax,) = panels(1, 1, 6, 4)
    look = lines_of(study.entrants)
    lines = frame[~frame["chosen"]]
    sns.lineplot(lines, x="fpr", y="tpr", ax=ax, errorbar=("pi", 100), err_kws={"alpha": 0.1}, **look)
    for name, colour in look["palette"].items():
        own = frame[frame["chosen"] & (frame["loss"] == name)].groupby("fpr")
        for (fpr, tpr), thin in zip(own["tpr"].mean().items(), own["thin"].any(), strict=True):
            face = "white" if thin else colour
            ax.plot([fpr], [tpr], "o", markersize=4, markeredgecolor=colour, markerfacecolor=face)
    ax.set(xscale="log", xlabel="false-positive rate (FPR, FAR)", ylabel="identification rate (TPR, TAR)")
    ax.set(ylim=(0, 1.02))
    plain_ticks(ax.xaxis)
    sns.move_legend(ax, "best", title=None, frameon=False)
    return Drawn(
        drawing,
        "Identification rate on unseen people against the false-positive rate. Bands span the repeats; markers are the "
        "operating points, hollow where fewer than ten negatives lie above the threshold.",
    )
