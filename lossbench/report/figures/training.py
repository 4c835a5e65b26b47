"""Training curves."""

from collections.abc import Sequence

import pandas as pd
import seaborn as sns

from lossbench.report.figures.look import Drawn, lines_of, panels, plain_ticks
from lossbench.results.history import read_history, relative_losses
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict


def training_curves(study: Study, found: Sequence[Verdict]) -> Drawn | None:
    """Draw loss relative to the first epoch, and accuracy on val, by epoch; None where nothing was trained.

    Raises:
        RunDamaged: a run's history is damaged.
    """
    rows = []
    for record in study.finished:
        history = read_history(record)
        for line, loss in zip(history, relative_losses(history), strict=True):
            rows.append(
                {"loss": record["entrant"], "epoch": line["epoch"], "relative": loss, "val": line["val_accuracy"]}
            )
    if not rows:
        return None
    frame = pd.DataFrame(rows)
    drawing, axes = panels(1, 2, 10, 3.6)
    shared = {"data": frame, "x": "epoch", "errorbar": ("pi", 100), "err_kws": {"alpha": 0.1}}
    shared |= lines_of(study.trained)
    sns.lineplot(**shared, y="relative", ax=axes[0], legend=False)
    sns.lineplot(**shared, y="val", ax=axes[1])
    axes[0].set(ylabel="training loss / that of epoch 1")
    axes[1].set(ylabel="accuracy on val")
    if frame["relative"].min() > 0:
        axes[0].set_yscale("log")
        plain_ticks(axes[0].yaxis)
    sns.move_legend(axes[1], "center left", bbox_to_anchor=(1.02, 0.5), title=None, frameon=False)
    return Drawn(drawing, "Training: loss relative to its first epoch, and accuracy on val. Bands span the repeats.")
