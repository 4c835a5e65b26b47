"""A run's epochs: ``history.jsonl``, and the timings that follow from it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from lossbench.errors import RunDamaged
from lossbench.results.metric_fields import number
from lossbench.results.store import Record


@dataclass(frozen=True)
class Epoch:
    """One line of ``history.jsonl``. Seconds and images count training alone, not the evaluation on val.

    `tracked` holds figures of test and query by flat name where they were asked for; nothing is chosen by them.
    """

    epoch: int
    train_loss: float
    val_accuracy: float
    lr: float
    images: int
    seconds: float
    tracked: dict[str, float | None] | None = None


def read_history(record: Record) -> list[dict[str, Any]]:
    """Return a run's history, a dictionary per epoch; empty for a run that never finished one.

    ``tracked`` is there where figures of test and query were asked for: flat name to number or None.
    """
    path = Path(record["folder"]) / "history.jsonl"
    if not path.is_file():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        epochs: list[dict[str, Any]] = [
            {"epoch": int(number(line["epoch"])), **{key: number(line[key]) for key in ("train_loss", "val_accuracy")}}
            for line in lines
        ]
        for epoch, line in zip(epochs, lines, strict=True):
            if tracked := line.get("tracked"):
                epoch["tracked"] = {name: None if v is None else float(v) for name, v in tracked.items()}
        return epochs
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise RunDamaged(f"{path} is damaged ({error})") from error


def read_epochs(record: Record) -> list[Epoch]:
    """Return a run's epochs with all that its history says of them; none for a run that never finished one.

    Raises:
        RunDamaged: the history is damaged, or of a lossbench that wrote less of an epoch.
    """
    read_history(record)
    path = Path(record["folder"]) / "history.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    known = {one.name for one in fields(Epoch)}
    try:
        return [Epoch(**{key: v for key, v in json.loads(line).items() if key in known}) for line in lines]
    except TypeError as error:
        raise RunDamaged(f"{path} is damaged ({error})") from error


def relative_losses(history: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the training loss of each epoch over that of the first; NaN throughout where that is 0.

    Example:
        >>> relative_losses([{"train_loss": 4.0}, {"train_loss": 1.0}])
        [1.0, 0.25]
    """
    first = history[0]["train_loss"] if history else 0.0
    return [line["train_loss"] / first if first else math.nan for line in history]


@dataclass(frozen=True)
class TrainingFacts:
    """What a training says of itself when it is judged: mean loss by epoch, steps, and whether the backbone moved."""

    losses: Sequence[float]
    steps: int
    moved: bool


def read_training_facts(record: Record) -> TrainingFacts:
    """Return the facts of a whole run's training.

    Raises:
        RunDamaged: the record or the history does not say them.
    """
    losses, said = [line["train_loss"] for line in read_history(record)], record.get("training")
    if not losses or not isinstance(said, dict) or not isinstance(said.get("steps"), int):
        raise RunDamaged(f"{record['folder']} does not say how its training went")
    return TrainingFacts(losses, said["steps"], said.get("moved") is True)


def timings(epochs: Sequence[Epoch], seconds: float) -> dict[str, float]:
    """Return images/s of the training alone, its seconds, and those of the whole run."""
    timed = epochs[1:] or epochs  # the first epoch warms up: kernels are chosen, memory is laid out
    training = sum(epoch.seconds for epoch in timed)
    return {
        "images_per_second": sum(epoch.images for epoch in timed) / training if timed else float("nan"),
        "training_seconds": sum(epoch.seconds for epoch in epochs),
        "seconds": seconds,
    }
