"""Verification: do two images show one person? The protocol of LFW: ten folds, threshold chosen on nine."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.metrics.exact.directions import GRID, Directions, exact_scores
from lossbench.metrics.operating_point import allowed


@dataclass(frozen=True)
class Verification:
    """What the protocol finds on P pairs.

    `accuracy` is the mean over folds, `standard_error` its standard error, `threshold` the mean of the folds'
    thresholds; `tar` is the share of same-person pairs accepted at a false-accept rate of `far`, NaN where the pairs do
    not support it; `eer` the equal error rate, `auc` the area under the ROC. `same` and `different` are numbers of
    pairs.
    """

    accuracy: float
    standard_error: float
    threshold: float
    tar: float
    far: float
    eer: float
    auc: float
    same: int
    different: int
    fold_accuracies: tuple[float, ...]


@dataclass(frozen=True)
class Roc:
    """The exact ROC of P pairs, strictest threshold first; tensors are float64 [K] on the CPU, K <= P + 1.

    Point k accepts the pairs scored strictly above `threshold`: `far` of the different-person pairs and `tar` of the
    same-person pairs, from 0 and 0 to 1 and 1. Pairs of equal scores are accepted together.
    """

    far: Tensor
    tar: Tensor
    threshold: Tensor


def pair_scores(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosines [P] of the rows of `a` and `b`, [P, D] each, as float32 in which ties tie.

    They are computed in float64 and rounded to multiples of 2^-30 first: float32 alone keeps the rounding around 0.

    Raises:
        ValueError: shapes that differ, or an embedding that is zero or not finite.

    Example:
        >>> pair_scores(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
        tensor([1.0000, 0.7071])
    """
    if a.ndim != 2 or a.shape != b.shape:
        raise ValueError(f"a {tuple(a.shape)} and b {tuple(b.shape)} must both be [P, D]")
    pairs = torch.arange(len(a), device=a.device)
    return (exact_scores(Directions(a), pairs, Directions(b), pairs) / GRID).to(torch.float32)


def verification(scores: Tensor, same: Tensor, folds: Tensor, *, far: float = 1e-3) -> Verification:
    """Measure verification by LFW's protocol ("unrestricted", Huang et al. 2007) on scored pairs.

    For every fold, the threshold is the one with the highest accuracy on the pairs of all other folds (the strictest of
    several), and the fold's accuracy is measured with it; a pair is accepted when its score is strictly above. The
    standard error is that of the mean over folds: their standard deviation (n - 1) over the root of their number.

    TAR at FAR takes all pairs together by the rule of `identification_rate`: with N different-person pairs, the
    threshold is the (floor(FAR·N + 1e-9) + 1)-th largest of their scores, and FAR·N < 1 is not supported. The equal
    error rate is where the linearly interpolated ROC has as many false accepts as false rejects.

    This differs from InsightFace's verification.py, which tries thresholds on squared distances in steps of 0.01 (ours
    are exact: halfway between neighbouring scores), reports the standard deviation of the folds, and averages TAR over
    folds at a threshold interpolated on the other nine, whose FAR may exceed the target.

    Args:
        scores: [P] similarities, finite.
        same: [P] bool, True where the pair shows one person.
        folds: [P] integers, at least two different.
        far: false-accept rate in (0, 1).

    Raises:
        ValueError: shapes that differ, scores that are not finite, one kind of pair only, fewer than two folds, or a
            rate outside (0, 1).

    Example:
        >>> scores = torch.tensor([0.9, 0.8, 0.4, 0.3, 0.7, 0.6, 0.5, 0.2])
        >>> same = torch.tensor([True, True, False, False, True, False, True, False])
        >>> found = verification(scores, same, folds=torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]), far=0.25)
        >>> found.fold_accuracies, found.tar
        ((1.0, 0.5), 1.0)
    """
    if not scores.ndim == 1 or not scores.shape == same.shape == folds.shape:
        raise ValueError(f"scores {tuple(scores.shape)}, same {tuple(same.shape)} and folds must all be [P]")
    scores, same = _checked(scores, same)
    folds = folds.cpu()
    if not 0 < far < 1:
        raise ValueError(f"false-accept rate {far} is not between 0 and 1")
    numbers = sorted(set(folds.tolist()))
    if len(numbers) < 2:
        raise ValueError("there must be two folds or more: a threshold is never measured on the pairs that chose it")
    thresholds, accuracies = [], []
    for number in numbers:
        held_out = folds == number
        thresholds.append(best_threshold(scores[~held_out], same[~held_out]))
        right = (scores[held_out] > thresholds[-1]) == same[held_out]
        accuracies.append(right.to(torch.float64).mean().item())
    spread = torch.tensor(accuracies, dtype=torch.float64)
    return Verification(
        accuracy=spread.mean().item(),
        standard_error=spread.std().item() / math.sqrt(len(accuracies)),
        threshold=math.fsum(thresholds) / len(thresholds),  # sum() of floats depends on the Python
        tar=_tar(scores, same, far),
        far=far,
        eer=equal_error_rate(scores, same),
        auc=auc(scores, same),
        same=int(same.sum()),
        different=int((~same).sum()),
        fold_accuracies=tuple(accuracies),
    )


def best_threshold(scores: Tensor, same: Tensor) -> float:
    """Return the threshold that classifies most pairs [P] correctly when scores strictly above it are accepted.

    It lies halfway between two scores; of several, the strictest is returned.

    Example:
        >>> scores, same = torch.tensor([0.875, 0.75, 0.5, 0.25]), torch.tensor([True, True, False, True])
        >>> best_threshold(scores, same)
        0.625
    """
    cuts, false_accepts, true_accepts = _accepted(scores, same)
    right = true_accepts + (int((~same).sum()) - false_accepts)
    return float(cuts[int((right == right.max()).nonzero()[0])])


def equal_error_rate(scores: Tensor, same: Tensor) -> float:
    """Return the rate at which false accepts equal false rejects on the linearly interpolated ROC of pairs [P].

    Example:
        >>> scores = torch.tensor([0.9, 0.8, 0.4, 0.3, 0.7, 0.6, 0.5, 0.2])
        >>> same = torch.tensor([True, True, False, False, True, False, True, False])
        >>> equal_error_rate(scores, same)
        0.25
    """
    _, false_accepts, true_accepts = _accepted(scores, same)
    far = false_accepts.to(torch.float64) / int((~same).sum())
    frr = 1 - true_accepts.to(torch.float64) / int(same.sum())
    after = int((far >= frr).nonzero()[0])  # exists: the last cut accepts everything; the first accepts nothing
    gap_before, gap_after = float(frr[after - 1] - far[after - 1]), float(far[after] - frr[after])
    share = gap_before / (gap_before + gap_after)
    return float(far[after - 1] + share * (far[after] - far[after - 1]))


def roc(scores: Tensor, same: Tensor) -> Roc:
    """Return the exact ROC of scored pairs: one point per different score, and the one that accepts nothing.

    Args:
        scores: [P] similarities, finite.
        same: [P] bool, True where the pair shows one person.

    Raises:
        ValueError: shapes that differ, scores that are not finite, or one kind of pair only.

    Example:
        >>> found = roc(torch.tensor([0.9, 0.8, 0.3]), torch.tensor([True, False, True]))
        >>> found.far, found.tar
        (tensor([0., 0., 1., 1.], dtype=torch.float64), tensor([0.0000, 0.5000, 0.5000, 1.0000], dtype=torch.float64))
    """
    thresholds, false_accepts, true_accepts = _accepted(*_checked(scores, same))
    false_accepts, true_accepts = false_accepts.to(torch.float64), true_accepts.to(torch.float64)
    return Roc(false_accepts / false_accepts[-1], true_accepts / true_accepts[-1], thresholds)


def auc(scores: Tensor, same: Tensor) -> float:
    """Return the area under the ROC, 0 to 1: how often a same-person pair scores above a different one, ties half.

    It is the Mann-Whitney statistic (Hanley & McNeil 1982), counted in whole numbers. Arguments and errors of `roc`.

    Example:
        >>> scores = torch.tensor([0.9, 0.8, 0.4, 0.3, 0.7, 0.6, 0.5, 0.2])
        >>> same = torch.tensor([True, True, False, False, True, False, True, False])
        >>> auc(scores, same)
        0.9375
    """
    _, false_accepts, true_accepts = _accepted(*_checked(scores, same))
    twice = (false_accepts.diff() * (true_accepts[1:] + true_accepts[:-1])).sum()
    return int(twice) / (2 * int(false_accepts[-1]) * int(true_accepts[-1]))


def _checked(scores: Tensor, same: Tensor) -> tuple[Tensor, Tensor]:
    """Return scores as float64 and `same` as bool, on the CPU."""
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(f"scores {tuple(scores.shape)} and same {tuple(same.shape)} must both be [P]")
    if not bool(scores.isfinite().all()):
        raise ValueError("a score is not finite")
    scores, same = scores.to(torch.float64).cpu(), same.to(torch.bool).cpu()
    if not bool(same.any()) or bool(same.all()):
        raise ValueError("there must be pairs of one person and pairs of two")
    return scores, same


def _accepted(scores: Tensor, same: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return all thresholds that matter, strictest first, and how many different and same pairs each accepts."""
    values, order = scores.sort(descending=True)
    true_accepts = same[order].to(torch.int64).cumsum(0)
    false_accepts = (~same[order]).to(torch.int64).cumsum(0)
    last = torch.cat([values[1:] < values[:-1], torch.tensor([True])])  # ties are accepted together or not at all
    below = torch.cat([values[1:], values[-1:] - 2])
    halfway = (values + below) / 2
    halfway = torch.where(halfway < values, halfway, below)  # neighbouring numbers have nothing between
    cuts = torch.cat([values[:1], halfway[last]])
    zero = torch.zeros(1, dtype=torch.int64)
    return cuts, torch.cat([zero, false_accepts[last]]), torch.cat([zero, true_accepts[last]])


def _tar(scores: Tensor, same: Tensor, far: float) -> float:
    negatives = scores[~same].sort(descending=True).values
    rank = allowed(far, len(negatives))
    if rank < 1:
        return math.nan
    return float((scores[same] > negatives[rank]).to(torch.float64).mean())
