"""Identification rate: the true-positive rate on unseen people at a fixed false-positive rate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.metrics.exact.directions import GRID, Directions
from lossbench.metrics.exact.order_statistics import order_statistics
from lossbench.metrics.exact.pairs import Pairs
from lossbench.metrics.exact.products import full_precision
from lossbench.metrics.operating_point import DEFAULT_FPRS, allowed
from lossbench.utils.threads import threads_for

_SPREAD, _LEAST, _MOST = 8, 1 << 20, 8 << 20  # scores kept: so many standard deviations of what columns differ by


@dataclass(frozen=True)
class IdentificationRate:
    """Operating points, one per requested false-positive rate; tensors are float64 [F] on the CPU.

    `tpr`, `threshold` and `achieved_fpr` are NaN where the data does not support the point, FPR·N < 1; `tpr` also where
    there is no positive pair. `positives` and `negatives` are numbers of pairs; `query_negatives` of these are pairs of
    two query images, the rest of a query image and a distractor.
    """

    fpr: Tensor
    tpr: Tensor
    threshold: Tensor
    achieved_fpr: Tensor
    positives: int
    negatives: int
    query_negatives: int


def identification_rate(
    query: Tensor,
    query_labels: Tensor,
    distractors: Tensor,
    fprs: Sequence[float] = DEFAULT_FPRS,
    *,
    block: int | None = None,
) -> IdentificationRate:
    """Share of same-person pairs accepted at thresholds that hold each false-positive rate.

    Positives are all pairs of two query images of one person; negatives are all pairs of two query images of
    different people and every query image with every distractor image. With N negatives in descending order and
    k = floor(FPR·N + 1e-9), the threshold is the (k+1)-th largest negative, and a pair is accepted when its score is
    strictly above it: ties never push the achieved rate over the target.

    Scores are cosines in float64, rounded to multiples of 2^-30 (see `metrics.products`). The result is exact and the
    same for every block size; memory grows with the images alone, and `distractors` may be a memory-mapped file.

    Args:
        query: [Q, D], any norm, not zero.
        query_labels: [Q] integers.
        distractors: [M, D]; M may be 0.
        fprs: target rates, each in (0, 1).
        block: columns of one product, and four times its rows, by default as suits the device; changes memory and
            speed only.

    Raises:
        ValueError: shapes that do not fit, a rate outside (0, 1), or an embedding that is zero or not finite.

    Example:
        >>> query, labels = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.1, 1.0]]), torch.tensor([0, 0, 1, 1])
        >>> found = identification_rate(query, labels, torch.tensor([[-1.0, 0.0], [1.0, 1.0]]), [0.2, 0.01])
        >>> found.tpr  # 12 negatives do not support 0.01
        tensor([1., nan], dtype=torch.float64)
        >>> found.threshold
        tensor([0.7071,    nan], dtype=torch.float64)
        >>> found.positives, found.negatives
        (2, 12)
    """
    if wrong := [rate for rate in fprs if not 0 < rate < 1]:
        raise ValueError(f"false-positive rate {wrong[0]} is not between 0 and 1")
    pairs = Pairs(Directions(query), query_labels, Directions(distractors), block)
    total = pairs.total
    # negatives that may lie above the threshold
    ranks = [allowed(rate, total) for rate in fprs]
    supported = [rank for rank in ranks if rank >= 1]
    columns = max(1, len(query) + len(distractors))
    kept = min(_MOST, max(_LEAST, round(_SPREAD * sum(supported) / math.sqrt(columns))))
    threads = threads_for(query.device)
    with full_precision():
        found = order_statistics(
            pairs.jobs, pairs.exact, supported, total, pairs.query.slack, columns, kept=kept, threads=threads
        )
    selected = dict(zip(supported, found, strict=True))
    accepted = dict.fromkeys(supported, 0)
    for scores, _ in pairs.positives():
        for rank in accepted:
            accepted[rank] += int((scores > selected[rank].score).sum())
    points = torch.full((len(ranks), 3), math.nan, dtype=torch.float64)
    for point, rank in zip(points, ranks, strict=True):
        if rank in selected:
            tpr = accepted[rank] / pairs.same if pairs.same else math.nan
            values = tpr, selected[rank].score / GRID, selected[rank].above / total
            point[:] = torch.tensor(values, dtype=torch.float64)
    fpr = torch.tensor(list(fprs), dtype=torch.float64)
    return IdentificationRate(fpr, points[:, 0], points[:, 1], points[:, 2], pairs.same, total, pairs.within)
