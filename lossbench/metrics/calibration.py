"""Threshold transfer: does a threshold set on some people hold its false-positive rate on others?"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.metrics.directions import BLOCK, GRID, grid_cosines, people_of, unit_rows
from lossbench.metrics.identification import DEFAULT_FPRS, identification_rate


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
    block: int = BLOCK,
) -> ThresholdTransfer:
    """Set thresholds on one set of people and measure them on another.

    In use, nobody can choose the threshold on the people he will meet. The rule is that of `identification_rate`: of
    the N pairs of calibration images of different people, with k = floor(FPR·N + 1e-9), the threshold is the (k+1)-th
    largest cosine, and a pair is accepted strictly above it. Positives and negatives of the query are its pairs, and
    every query image with every distractor image. Scores are cosines in float64 rounded to multiples of 2^-30.

    Args:
        calibration: [N, D], any norm, not zero; such as the embeddings of `val`.
        calibration_labels: [N] integers.
        query: [Q, D], of other people.
        query_labels: [Q] integers.
        distractors: [M, D]; M may be 0.
        fprs: target rates, each in (0, 1).
        block: rows and columns of one product; changes memory only.

    Raises:
        ValueError: shapes that do not fit, a rate outside (0, 1), or an embedding that is zero or not finite.
    """
    shapes = [tuple(part.shape) for part in (calibration, query, distractors)]
    if any(len(shape) != 2 or shape[1] != shapes[0][1] for shape in shapes):
        raise ValueError(f"calibration, query and distractors {shapes} must be [N, D], [Q, D] and [M, D]")
    calibration_people, _ = people_of(calibration, calibration_labels)
    people, _ = people_of(query, query_labels)
    rate = identification_rate(calibration, calibration_people, calibration[:0], fprs)
    cuts = [GRID if cut.isnan() else round(cut.item() * GRID) for cut in rate.threshold]  # nothing lies above 1
    accepted = torch.zeros(2, len(cuts), dtype=torch.float64)  # of negatives, of positives; whole numbers
    pairs = [0, 0]
    for scores, same in _pairs(unit_rows(query), people, distractors, block):
        for kind, of_kind in enumerate((scores[~same], scores[same])):
            pairs[kind] += len(of_kind)
            accepted[kind] += torch.tensor([int((of_kind > cut).sum()) for cut in cuts], dtype=torch.float64)
    rates = accepted / torch.tensor(pairs, dtype=torch.float64).unsqueeze(1)  # NaN of no pairs
    rates[:, rate.threshold.isnan()] = math.nan
    return ThresholdTransfer(rate.fpr, rate.threshold, rates[0], rates[1], rate.negatives, pairs[1], pairs[0])


def _pairs(unit: Tensor, people: Tensor, distractors: Tensor, block: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the scores of all pairs, flat, block by block, and which of them show one person."""
    for i in range(0, len(unit), block):
        rows = unit[i : i + block]
        for j in range(i, len(unit), block):
            columns = unit[j : j + block]
            same = people[i : i + block].unsqueeze(1) == people[j : j + block]
            once = torch.ones_like(same).triu(diagonal=1) if i == j else torch.ones_like(same)
            yield grid_cosines(rows, columns)[once], same[once]
        for j in range(0, len(distractors), block):  # made unit block by block: there may be a million
            scores = grid_cosines(rows, unit_rows(distractors[j : j + block])).flatten()
            yield scores, torch.zeros_like(scores, dtype=torch.bool)
