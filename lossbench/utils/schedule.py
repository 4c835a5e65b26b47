"""Schedules of the learning rate: cosine, steps at given epochs, polynomial; all after a linear warm-up."""

import math

from lossbench.errors import InputError
from lossbench.utils.text import clipped

POWER = 2  # of poly, as insightface's arcface_torch


def drops(schedule: str) -> tuple[int, ...]:
    """Return the epochs after which a schedule divides the rate by 10: those of ``step:10,18``, else none.

    Raises:
        InputError: no schedule is called so, or its epochs are no rising whole numbers.
    """
    if schedule in ("cosine", "poly"):
        return ()
    kind, _, text = schedule.partition(":")
    parts = text.split(",")
    if kind != "step" or not all(part.isascii() and part.isdigit() and len(part) < 10 for part in parts):
        raise InputError(f"--schedule '{clipped(schedule)}' is not known; use cosine, poly, or epochs as in step:10,18")
    epochs = tuple(map(int, parts))
    if sorted({*epochs, 0}) != [0, *epochs]:
        raise InputError(f"--schedule {schedule} should name rising epochs from 1; write them as in step:10,18")
    return epochs


def learning_rate(
    step: int, steps: int, peak: float, warmup: float, schedule: str = "cosine", epochs: int = 1
) -> float:
    """Return the rate of one step: linear warm-up over the first `warmup` share of the steps, then the schedule.

    ``cosine`` is half a cosine down to 0 (arXiv:1608.03983), ``poly`` falls to 0 as (1 - t)^2, and ``step:10,18``
    divides the rate by 10 after epochs 10 and 18.

    Args:
        step: 0..steps-1, counted over the whole training.
        steps: of the whole training, a multiple of `epochs`.
        peak: the highest rate.
        warmup: share of the steps, 0 <= warmup < 1.
        schedule: one that `drops` takes.
        epochs: of the whole training.
    """
    warm = warmup * steps
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
    if schedule == "poly":
        return peak * math.pow(1 - (step - warm) / (steps - warm), POWER)
    finished = step * epochs // steps
    return peak / math.pow(10, sum(finished >= epoch for epoch in drops(schedule)))
