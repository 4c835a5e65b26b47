"""Identification rate: the true-positive rate on unseen people at a fixed false-positive rate."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

DEFAULT_FPRS = (0.1, 0.05, 0.01, 0.001)
_BLOCK = 2048  # rows and columns of one product: 32 MiB of float64 scores
_GRID = 1 << 30  # scores are whole multiples of 1/_GRID
_LOW = 16  # bits of a score that the second pass of the selection counts; the first counts the rest
_OFFSET = _GRID >> _LOW  # makes the upper bits of a score, from -1 to 1, an index from 0
_BINS = 2 * _OFFSET + 1


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

    Scores are cosines, computed in float64 and rounded to multiples of 2^-30, so that pairs whose cosines are equal in
    exact arithmetic tie whatever order the sums were made in; cosines closer than 1e-9 may count as equal. Selection
    is exact, in two passes over blocks of products: memory grows with the images and the positives, never with N.

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
    if len(query) == 0:
        nothing = torch.full((len(fprs),), math.nan, dtype=torch.float64)
        return IdentificationRate(torch.tensor(list(fprs), dtype=torch.float64), nothing, nothing, nothing, 0, 0)
    scores = _Scores(_unit(query), query_labels, _unit(distractors), block)
    high = torch.zeros(_BINS, dtype=torch.int64, device=query.device)
    positives = []
    for positive, negative in scores.blocks():
        positives.append(positive)
        high += torch.bincount((negative >> _LOW) + _OFFSET, minlength=_BINS)
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
            point[:] = torch.tensor([tpr.item(), threshold / _GRID, above / total], dtype=torch.float64)
    fpr = torch.tensor(list(fprs), dtype=torch.float64)
    return IdentificationRate(fpr, points[:, 0], points[:, 1], points[:, 2], len(positive), total)


def scored_pairs(
    query: Tensor, distractors: Tensor, owners: Tensor, share: float, kept: float = 1.0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return all positives, and the upper tail of the negatives, each with the people it is of; scores as above.

    Args:
        query: [Q, D].
        distractors: [M, D].
        owners: [Q + M] int64, who is on each image, query first.
        share: of the negatives, in (0, 1]: the tail is at least so many of them.
        kept: of the tail, in (0, 1]: drawn at random, alike for all embeddings of the same images.

    Returns:
        Positive scores, descending, and their person; the tail's scores, descending, and its people [2, T]. Scores
        are multiples of 2^-30 as int64, all on the CPU.
    """
    labels = owners[: len(query)]
    rate = identification_rate(query, labels, distractors, [share]) if share < 1 else None
    floor = -_GRID - 1 if rate is None or rate.threshold.isnan() else round(rate.threshold.item() * _GRID)
    scores = _Scores(_unit(query), labels, _unit(distractors), _BLOCK)
    chance = torch.Generator().manual_seed(0)
    positive, negative = [], []
    for block, rows, columns, kind in scores.pairs():
        first, second = owners[rows], owners[columns]
        same = (first.unsqueeze(1) == second) & kind
        positive.append(torch.stack([block[same], first.unsqueeze(1).expand_as(block)[same]]))
        wanted = (first.unsqueeze(1) != second) & kind & (block >= floor)
        if kept < 1:
            wanted &= (torch.rand(block.shape, generator=chance) < kept).to(block.device)
        i, j = wanted.nonzero(as_tuple=True)
        negative.append(torch.stack([block[i, j], first[i], second[j]]))
    found, tail = torch.cat(positive, dim=1).cpu(), torch.cat(negative, dim=1).cpu()
    found, tail = found[:, found[0].argsort(descending=True)], tail[:, tail[0].argsort(descending=True)]
    return found[0], found[1], tail[0], tail[1:]


def _unit(embeddings: Tensor) -> Tensor:
    embeddings = embeddings.to(torch.float64)
    norms = embeddings.norm(dim=1)
    if not bool(((norms > 0) & norms.isfinite()).all()):
        raise ValueError("an embedding is zero or not finite; it has no direction to compare")
    return F.normalize(embeddings, dim=1)


class _Scores:
    """All pairs, block by block, always the same blocks: a second pass sees the same bits."""

    def __init__(self, query: Tensor, labels: Tensor, distractors: Tensor, block: int):
        self.query, self.labels, self.distractors, self.block = query, labels, distractors, block

    def blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the positive and negative scores (flat, int32 multiples of 1/_GRID) of one block after the other."""
        for scores, rows, columns, once in self.pairs():
            if columns.start >= len(self.query):
                yield scores[:0].flatten(), scores.flatten()
            else:
                same = self.labels[rows].unsqueeze(1) == self.labels[columns]
                yield scores[once & same], scores[once & ~same]

    def pairs(self) -> Iterator[tuple[Tensor, slice, slice, Tensor]]:
        """Yield the scores of one block, its rows, its columns (distractors after the query), and which pairs count."""
        queries = len(self.query)
        for i in range(0, queries, self.block):
            rows = slice(i, min(i + self.block, queries))
            for j in range(i, queries, self.block):
                columns = slice(j, min(j + self.block, queries))
                scores = _grid(self.query[rows] @ self.query[columns].T)
                every = torch.ones_like(scores, dtype=torch.bool)
                yield scores, rows, columns, every.triu(diagonal=1) if i == j else every  # each pair once
            for j in range(0, len(self.distractors), self.block):
                others = self.distractors[j : j + self.block]
                scores = _grid(self.query[rows] @ others.T)
                every = torch.ones_like(scores, dtype=torch.bool)
                yield scores, rows, slice(queries + j, queries + j + len(others)), every

    def select(self, ranks: Sequence[int], high: Tensor) -> list[tuple[int, int]]:
        """Return, for each rank k, the (k+1)-th largest negative and how many negatives lie strictly above it.

        `high` [_BINS] counts the negatives by their upper bits; the second pass counts the lower bits within the bins
        that hold a wanted rank.
        """
        at_or_above = high.flip(0).cumsum(0).flip(0).cpu()  # of each bin
        bins = [int((at_or_above > rank).nonzero().max()) for rank in ranks]
        low = {b: torch.zeros(1 << _LOW, dtype=torch.int64, device=high.device) for b in bins}
        for _, negative in self.blocks() if low else ():
            upper = (negative >> _LOW) + _OFFSET
            for b, counts in low.items():
                counts += torch.bincount(negative[upper == b] & ((1 << _LOW) - 1), minlength=1 << _LOW)
        found = []
        for rank, b in zip(ranks, bins, strict=True):
            beyond = int(at_or_above[b] - high[b])
            within = (low[b].flip(0).cumsum(0).flip(0) + beyond).cpu()
            cell = int((within > rank).nonzero().max())
            found.append((((b - _OFFSET) << _LOW) + cell, int(within[cell] - low[b][cell])))
        return found


def _grid(cosines: Tensor) -> Tensor:
    return (cosines * _GRID).round_().to(torch.int32)
