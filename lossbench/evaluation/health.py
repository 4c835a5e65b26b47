"""Whether a run that ended without an error came to anything: collapsed embeddings, and losses that do not learn.

The rules err on the side of silence: a run that they fail is left out of every mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.metrics import effective_rank, total_variance
from lossbench.metrics.exact.directions import unit_rows

STEPS = 50  # fewer tell nothing: batch normalisation's running statistics are still on their way
# effective rank below which everything lies on a line; healthy runs of three classes and more stay above 3
_RANK = 1.5
# variance of unit vectors below which everything lies in a point; healthy runs of so many steps stay above 0.3
_POINT = 0.01
_DISTINCT = 0.5  # share of the images that must have an embedding of their own: no data has so many copies
_LOOKED_AT = 2000  # images
_FALL = 0.01  # share of the first epoch's loss by which it must have fallen
_CHANCE = 0.001  # of guessing as well as this


@dataclass(frozen=True)
class Outcome:
    """What a training led to.

    `losses` are the mean training losses of the epochs, `unseen` the embeddings [N, D] of people it never saw.
    `scored` tells whether `val_accuracy`, over `val_images`, comes from the head's own scores. `moved` is False where
    no step had any gradient for the backbone.
    """

    losses: Sequence[float]
    steps: int
    moved: bool
    unseen: Tensor
    val_accuracy: float
    val_images: int
    classes: int
    scored: bool


def ailment(outcome: Outcome) -> str | None:
    """Return why a training came to nothing, in one line; None where it is well, or too short to tell."""
    if not outcome.moved:
        return "does not learn: no step had a gradient for the backbone"
    if outcome.steps < STEPS:
        return None
    variance, rank = total_variance(outcome.unseen), effective_rank(outcome.unseen)
    if variance < _POINT:
        return f"collapsed: the embeddings of unseen people are one point (variance of unit vectors {variance:.1g})"
    if rank < _RANK and outcome.classes > 2:  # two classes need no more than a line
        return f"collapsed: the embeddings of unseen people lie on a line (effective rank {rank:.2f})"
    different, images = _distinct(outcome.unseen)
    if different < _DISTINCT * images:
        return f"collapsed: {images} images of unseen people have {different} different embeddings"
    first, last = outcome.losses[0], outcome.losses[-1]
    fell = last < first - _FALL * abs(first)
    if outcome.scored and not fell and _by_chance(outcome):
        return (
            f"does not learn: accuracy on val {outcome.val_accuracy:.3f} is that of guessing, and the loss went from "
            f"{first:.4g} to {last:.4g}"
        )
    return None


def _distinct(embeddings: Tensor) -> tuple[int, int]:
    """Return how many different directions the first images have, to five digits, and how many images these are."""
    unit = unit_rows(embeddings[:_LOOKED_AT])
    return len(torch.unique((unit * 1e5).round(), dim=0)), len(unit)


def _by_chance(outcome: Outcome) -> bool:
    """Return whether guessing among the classes gets as many of the val images right in one case of a thousand."""
    from scipy.stats import binom

    hits = round(outcome.val_accuracy * outcome.val_images)
    return bool(binom.sf(hits - 1, outcome.val_images, 1 / outcome.classes) > _CHANCE)
