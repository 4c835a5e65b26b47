"""What a logger of `--log-to` is, and what every one of them is given: a run's name, settings and figures."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from lossbench.benchmark.plan import Run
from lossbench.results.history import Epoch
from lossbench.results.metric_fields import flat_metrics, own_fprs, shown_in
from lossbench.results.store import Record

Figures = Mapping[str, float]


class Logger(Protocol):
    """Writes runs to where somebody watches training. Any of its methods may raise: the run then continues without it.

    Several runs may be open at a time. Between `begin` and `finish` comes every epoch of a run, also where it resumes.
    """

    def has(self, run: Run) -> bool:
        """Whether something of this run has been written before."""

    def begin(self, run: Run) -> None:
        """A run begins, or resumes: what was written of it before is replaced by what follows."""

    def epoch(self, run: Run, number: int, figures: Figures) -> None:
        """Write the figures of an epoch."""

    def finish(self, run: Run, record: Record, figures: Figures) -> None:
        """Write the final figures of a run that has begun, and that it is finished or has failed."""

    def close(self) -> None:
        """Write the rest: the command ends, perhaps before runs that have begun."""


def name_of(run: Run) -> str:
    """Return how a run is called: entrant and repeat, as its folder is."""
    return f"{run.entrant}-r{run.repeat}"


def settings_of(run: Run) -> dict[str, str | int | float | bool]:
    """Return what a run is of, flat: loss, repeat, the loss's hyper-parameters, and the settings of training."""
    own = {f"loss/{name}": value for name, value in run.identity["hyperparameters"].items()}
    found = {"loss": run.entrant, "repeat": run.repeat, **own, **run.identity["protocol"]["config"]}
    return {name: _plain(value) for name, value in found.items() if value is not None}


def _plain(value: Any) -> str | int | float | bool:
    return value if isinstance(value, str | int | float | bool) else str(value)


def epoch_figures(epoch: Epoch) -> dict[str, float]:
    """Return what history.jsonl holds of an epoch, and images/s; NaN is left out.

    Example:
        >>> epoch_figures(Epoch(1, train_loss=2.5, val_accuracy=0.5, lr=0.1, images=100, seconds=2.0))
        {'train_loss': 2.5, 'val_accuracy': 0.5, 'lr': 0.1, 'images': 100, 'seconds': 2.0, 'images_per_second': 50.0}
    """
    found = {name: value for name, value in vars(epoch).items() if name not in ("epoch", "tracked")}
    found["images_per_second"] = epoch.images / epoch.seconds if epoch.seconds else math.nan
    found |= {f"tracked/{name}": value for name, value in (epoch.tracked or {}).items()}
    return _numbers(found)


def final_figures(record: Record) -> dict[str, float]:
    """Return the figures of a run that the CSV of runs has, under ``final/`` and their keys; NaN is left out."""
    flat = flat_metrics(record)
    shown = [figure.key for figure in shown_in("runs", fprs=own_fprs(flat))]
    return _numbers({f"final/{key}": flat.get(key) for key in shown})


def _numbers(figures: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if value is not None and math.isfinite(value)}
