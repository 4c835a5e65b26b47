"""Identification rate: the true-positive rate on unseen people at a fixed false-positive rate."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DEFAULT_FPRS = (0.1, 0.05, 0.01, 0.001)
_BLOCK = 2048  # rows and columns of one product: 32 MiB of float64 scores


@dataclass(frozen=True)
class IdentificationRate:
    """Operating points, one per requested false-positive rate; tensors are float64 [F] on the CPU.

    `tpr`, `threshold` and `achieved_fpr` are NaN where the data does not support the point, FPR·N < 1; `tpr` also where
    there is no positive pair. `positives` and `negatives` are numbers of pairs.
    """

    fpr: Tensor
    tpr: Tensor
    threshold: Tensor
    achieved_fpr: Tensor
    positives: int
    negatives: int


def identification_rate(
    query: Tensor,
    query_labels: Tensor,
    distractors: Tensor,
    fprs: Sequence[float] = DEFAULT_FPRS,
    *,
    block: int = _BLOCK,
) -> IdentificationRate:
    """Share of same-person pairs accepted at thresholds that hold each false-positive rate.

    Positives are all pairs of two query images of one person; negatives are all pairs of two query images of
    different people and every query image with every distractor image. With N negatives in descending order and
    k = floor(FPR·N + 1e-9), the threshold is the (k+1)-th largest negative, and a pair is accepted when its score is
    strictly above it: ties never push the achieved rate over the target.

    Scores are cosines, computed in float64 and rounded to float32, so that pairs whose cosines are equal in exact
    arithmetic tie whatever order the sums were made in; cosines closer than 6e-8 count as equal. Exact selection in
    two passes over blocks of products: memory grows with the number of images and of positives, never with N.

    Args:
        query: [Q, D], any norm, not zero.
        query_labels: [Q] integers.
        distractors: [M, D]; M may be 0.
        fprs: target rates, each in (0, 1).
        block: rows and columns of one product; changes memory only.

    Raises:
        ValueError: shapes that do not fit, a rate outside (0, 1), or an embedding that is zero or not finite.
    """
    if query.ndim != 2 or distractors.ndim != 2 or query.shape[1] != distractors.shape[1]:
        raise ValueError(
            f"query {tuple(query.shape)} and distractors {tuple(distractors.shape)} must be [Q, D] and [M, D]"
        )
    if query_labels.shape != query.shape[:1]:
        raise ValueError(f"query_labels {tuple(query_labels.shape)} must be [{len(query)}], one per query image")
    if wrong := [rate for rate in fprs if not 0 < rate < 1]:
        raise ValueError(f"false-positive rate {wrong[0]} is not between 0 and 1")
    scores = _Scores(_unit(query), query_labels, _unit(distractors), block)
    high = torch.zeros(1 << 16, dtype=torch.int64, device=query.device)
    positives = []
    for positive, negative in scores.blocks():
        positives.append(positive)
        high += torch.bincount((_sortable(negative) >> 16) + (1 << 15), minlength=1 << 16)
    positive = torch.cat(positives)
    total = int(high.sum())
    ranks = [math.floor(rate * total + 1e-9) for rate in fprs]  # negatives that may lie above the threshold
    supported = sorted({rank for rank in ranks if rank >= 1})
    selected = dict(zip(supported, scores.select(supported, high), strict=True))
    points = torch.full((len(ranks), 3), math.nan, dtype=torch.float64)
    for point, rank in zip(points, ranks, strict=True):
        if rank in selected:
            threshold, above = selected[rank]
            tpr = (positive > threshold).to(torch.float64).mean()  # NaN of no positives
            point[:] = torch.tensor([tpr, threshold, above / total])
    fpr = torch.tensor(list(fprs), dtype=torch.float64)
    return IdentificationRate(fpr, points[:, 0], points[:, 1], points[:, 2], len(positive), total)


def _unit(embeddings: Tensor) -> Tensor:
    embeddings = embeddings.to(torch.float64)
    norms = embeddings.norm(dim=1)
    if not bool(((norms > 0) & norms.isfinite()).all()):
        raise ValueError("an embedding is zero or not finite; it has no direction to compare")
    return F.normalize(embeddings, dim=1)


def _sortable(scores: Tensor) -> Tensor:
    """Map float32 to int32 in the same order (-0.0 and 0.0 alike), so that ranks can be found by counting."""
    bits = (scores + 0.0).view(torch.int32)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


def _score_of(key: int) -> float:
    bits = torch.tensor(key, dtype=torch.int32)
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).view(torch.float32).item()


class _Scores:
    """All pairs, block by block, always the same blocks: a second pass sees the same bits."""

    def __init__(self, query: Tensor, labels: Tensor, distractors: Tensor, block: int):
        self.query, self.labels, self.distractors, self.block = query, labels, distractors, block

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the positive and the negative scores (flat, float32) of one block of pairs after the other."""
        nothing = self.query.new_empty(0, dtype=torch.float32)
        for i in range(0, len(self.query), self.block):
            rows, row_labels = self.query[i : i + self.block], self.labels[i : i + self.block]
            for j in range(i, len(self.query), self.block):
                scores = (rows @ self.query[j : j + self.block].T).to(torch.float32)
                same = row_labels.unsqueeze(1) == self.labels[j : j + self.block]
                if i == j:  # each pair once, no image with itself
                    once = torch.ones_like(same).triu(diagonal=1)
                    yield scores[once & same], scores[once & ~same]
                else:
                    yield scores[same], scores[~same]
            for j in range(0, len(self.distractors), self.block):
                yield nothing, (rows @ self.distractors[j : j + self.block].T).to(torch.float32).flatten()

    def select(self, ranks: Sequence[int], high: Tensor) -> list[tuple[float, int]]:
        """Return, for each rank k, the (k+1)-th largest negative and how many negatives lie strictly above it.

        `high` [65536] counts negatives by the upper half of their sortable bits; the second pass counts the lower
        half within the bins that hold a wanted rank.
        """
        at_or_above = high.flip(0).cumsum(0).flip(0).cpu()  # of each bin
        bins = [int((at_or_above > rank).nonzero().max()) for rank in ranks]
        low = {b: torch.zeros(1 << 16, dtype=torch.int64, device=high.device) for b in bins}
        for _, negative in self.blocks() if low else ():
            keys = _sortable(negative)
            upper = (keys >> 16) + (1 << 15)
            for b, counts in low.items():
                counts += torch.bincount(keys[upper == b] & 0xFFFF, minlength=1 << 16)
        found = []
        for rank, b in zip(ranks, bins, strict=True):
            beyond = int(at_or_above[b] - high[b])
            within = (low[b].flip(0).cumsum(0).flip(0) + beyond).cpu()
            cell = int((within > rank).nonzero().max())
            found.append((_score_of(((b - (1 << 15)) << 16) + cell), int(within[cell] - low[b][cell])))
        return found
