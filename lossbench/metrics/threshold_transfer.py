"""Threshold transfer: does a threshold set on some people hold its false-positive rate on others?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.metrics.exact.directions import GRID, Directions
from lossbench.metrics.exact.pairs import Pairs
from lossbench.metrics.identification import identification_rate
from lossbench.metrics.operating_point import DEFAULT_FPRS


@dataclass(frozen=True)
class ThresholdTransfer:
    """Operating points, one per target false-positive rate; tensors are float64 [F] on the CPU.

    `fpr` is the target, `threshold` the cosine that holds it on the calibration people, `achieved_fpr` and `tpr` what
    it gives on the query people: a transfer fails where `achieved_fpr` is above `fpr`. All but `fpr` are NaN where the
    calibration pairs do not support the point, FPR·N < 1; `achieved_fpr` and `tpr` also where there is no negative or
    no positive pair to measure them on. The counts are numbers of pairs.
    """

    fpr: Tensor
    threshold: Tensor
    achieved_fpr: Tensor
    tpr: Tensor
    calibration_negatives: int
    positives: int
    negatives: int


def threshold_transfer(
    calibration: Tensor,
    calibration_labels: Tensor,
    query: Tensor,
    query_labels: Tensor,
    distractors: Tensor,
    fprs: Sequence[float] = DEFAULT_FPRS,
    *,
    block: int | None = None,
) -> ThresholdTransfer:
    """Set thresholds on one set of people and measure them on another.

    In use, a threshold cannot be chosen on the people that the system will meet. The rule is that of
    `identification_rate`: of the N pairs of calibration images of different people, with k = floor(FPR·N + 1e-9), the
    threshold is the (k+1)-th largest cosine, and a pair is accepted strictly above it. Positives and negatives of the
    query are its pairs, and every query image with every distractor image. Scores are cosines in float64 rounded to
    multiples of 2^-30.

    Args:
        calibration: [N, D], any norm, not zero; such as the embeddings of `val`.
        calibration_labels: [N] integers.
        query: [Q, D], of other people.
        query_labels: [Q] integers.
        distractors: [M, D]; M may be 0.
        fprs: target rates, each in (0, 1).
        block: columns of one product, and four times its rows, by default as suits the device; changes memory and
            speed only.

    Raises:
        ValueError: shapes that do not fit, a rate outside (0, 1), or an embedding that is zero or not finite.

    Example:
        >>> calibration = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.1, 1.0]])
        >>> query, labels = torch.tensor([[1.0, 0.2], [1.0, 0.1], [0.3, 1.0]]), torch.tensor([0, 0, 1])
        >>> distractors = torch.tensor([[-1.0, 0.0], [1.0, 2.0]])
        >>> found = threshold_transfer(calibration, torch.tensor([0, 0, 1, 1]), query, labels, distractors, [0.3])
        >>> round(found.threshold.item(), 6), found.achieved_fpr.item(), found.tpr.item()
        (0.6, 0.25, 1.0)
    """
    shapes = [tuple(part.shape) for part in (calibration, query, distractors)]
    if any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
        raise ValueError(f"calibration, query and distractors {shapes} must be [N, D], [Q, D] and [M, D]")
    rate = identification_rate(calibration, calibration_labels, calibration[:0], fprs)
    pairs = Pairs(Directions(query), query_labels, Directions(distractors), block)
    cuts = [GRID if cut.isnan() else round(cut.item() * GRID) for cut in rate.threshold]  # nothing lies above 1
    above, alarms = pairs.accepted(cuts)
    tpr, fpr = (
        torch.tensor(found, dtype=torch.float64) / total  # NaN of no pairs
        for found, total in ((above, pairs.same), (alarms, pairs.total))
    )
    for rates in (tpr, fpr):
        rates[rate.threshold.isnan()] = math.nan
    return ThresholdTransfer(rate.fpr, rate.threshold, fpr, tpr, rate.negatives, pairs.same, pairs.total)
