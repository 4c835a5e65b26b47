"""Detects runs that ended without an error but failed: collapsed embeddings, and losses that do not learn.

The rules are conservative: a run that fails one of them is left out of every mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.metrics import effective_rank, total_variance
from lossbench.metrics.exact.directions import unit_rows

STEPS = 50  # no verdict after fewer: batch normalisation's running statistics have not settled
# an effective rank below this is a line; healthy runs with three or more classes stay above 3
_RANK = 1.5
# a variance of unit vectors below this is a point; healthy runs of at least STEPS steps stay above 0.3
_POINT = 0.01
_DISTINCT = 0.5  # share of images whose embeddings must differ: no data set has this many duplicates
_LOOKED_AT = 2000  # images examined for duplicates
_FALL = 0.01  # the loss must fall by this share of its value in the first epoch
_CHANCE = 0.001  # probability, under guessing, below which an accuracy counts as learnt


@dataclass(frozen=True)
class Outcome:
    """The outcome of a training.

    `losses` are the mean training losses per epoch, `unseen` the embeddings [N, D] of people unseen in training, or of
    `whom` else where nobody is held out.
    `scored` says whether `val_accuracy`, over `val_images`, comes from the head's own scores. `moved` is False if no
    step had a gradient for the backbone.
    """

    losses: Sequence[float]
    steps: int
    moved: bool
    unseen: Tensor
    val_accuracy: float
    val_images: int
    classes: int
    scored: bool
    whom: str = "unseen people"


def failure_reason(outcome: Outcome) -> str | None:
    """Return in one line why a training failed; None if it is healthy, or too short to judge."""
    if not outcome.moved:
        return "does not learn: no step had a gradient for the backbone"
    if outcome.steps < STEPS:
        return None
    variance, rank = total_variance(outcome.unseen), effective_rank(outcome.unseen)
    if variance < _POINT:
        return f"collapsed: the embeddings of {outcome.whom} are one point (variance of unit vectors {variance:.1g})"
    if rank < _RANK and outcome.classes > 2:  # a line is enough to separate two classes
        return f"collapsed: the embeddings of {outcome.whom} lie on a line (effective rank {rank:.2f})"
    different, images = _distinct(outcome.unseen)
    if different < _DISTINCT * images:
        return f"collapsed: {images} images of {outcome.whom} have {different} different embeddings"
    first, last = outcome.losses[0], outcome.losses[-1]
    fell = last < first - _FALL * abs(first)
    if outcome.scored and not fell and _by_chance(outcome):
        return (
            f"does not learn: accuracy on val {outcome.val_accuracy:.3f} is no better than guessing, and the loss went "
            f"from {first:.4g} to {last:.4g}"
        )
    return None


def _distinct(embeddings: Tensor) -> tuple[int, int]:
    """Return how many distinct directions, to five digits, the first `_LOOKED_AT` images have, and their count."""
    unit = unit_rows(embeddings[:_LOOKED_AT])
    return len(torch.unique((unit * 1e5).round(), dim=0)), len(unit)


def _by_chance(outcome: Outcome) -> bool:
    """Return whether guessing reaches this accuracy on val with a probability above `_CHANCE`."""
    from scipy.stats import binom

    hits = round(outcome.val_accuracy * outcome.val_images)
    return bool(binom.sf(hits - 1, outcome.val_images, 1 / outcome.classes) > _CHANCE)
