"""Identification rate: the true-positive rate on unseen people at a fixed false-positive rate."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lossbench.metrics.directions import GRID
from lossbench.metrics.order_statistics import Job, Tile, order_statistics
from lossbench.metrics.products import Directions, exact_scores, full_precision, products

DEFAULT_FPRS = (0.1, 0.05, 0.01, 0.001)
_BLOCK = 1024  # columns of one product, and half as many rows: 2 MiB stay in the cache while they are compared
_SPREAD, _LEAST, _MOST = 12, 1 << 20, 16 << 20  # scores kept: so many standard deviations of what columns differ by
_RUN = 64  # neighbouring distractors that are read together: files are read in runs, people lie in runs


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
    block: int = _BLOCK,
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
        block: columns of one product, and twice its rows; changes memory and speed only.

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
    pairs = _Pairs(Directions(query), query_labels, Directions(distractors), block)
    total = pairs.total
    ranks = [math.floor(rate * total + 1e-9) for rate in fprs]  # negatives that may lie above the threshold
    supported = [rank for rank in ranks if rank >= 1]
    columns = max(1, len(query) + len(distractors))
    kept = min(_MOST, max(_LEAST, round(_SPREAD * sum(supported) / math.sqrt(columns))))
    threads = torch.get_num_threads() if query.device.type == "cpu" else 1
    with full_precision():
        found = order_statistics(
            pairs.jobs, pairs.exact, supported, total, pairs.query.slack, kept=kept, threads=threads
        )
    selected = dict(zip(supported, found, strict=True))
    accepted, positives = dict.fromkeys(supported, 0), 0
    for scores, _ in pairs.positives():
        positives += len(scores)
        for rank in accepted:
            accepted[rank] += int((scores > selected[rank].score).sum())
    points = torch.full((len(ranks), 3), math.nan, dtype=torch.float64)
    for point, rank in zip(points, ranks, strict=True):
        if rank in selected:
            tpr = accepted[rank] / positives if positives else math.nan
            values = tpr, selected[rank].score / GRID, selected[rank].above / total
            point[:] = torch.tensor(values, dtype=torch.float64)
    fpr = torch.tensor(list(fprs), dtype=torch.float64)
    return IdentificationRate(fpr, points[:, 0], points[:, 1], points[:, 2], positives, total, pairs.within)


class _Pairs:
    """The pairs of the identification rate; rows are query images, columns these and then the distractors."""

    def __init__(self, query: Directions, labels: Tensor, distractors: Directions, block: int):
        self.query, self.labels, self.distractors = query, labels, distractors
        self.rows, self.columns = max(1, block // 2), block
        own = torch.unique(labels, return_counts=True)[1].to(torch.int64)
        self.within = (len(labels) ** 2 - int((own**2).sum())) // 2  # pairs of two query images of different people
        self.total = self.within + len(query) * len(distractors)

    def positives(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the scores of pairs of two query images of one person and the person, in parts: [P], [P]."""
        order = self.labels.argsort()
        for apart in range(1, len(order)):
            i, j = order[:-apart], order[apart:]
            same = self.labels[i] == self.labels[j]
            if not bool(same.any()):
                return  # nobody has more images
            yield exact_scores(self.query, i[same], self.query, j[same]), self.labels[i[same]]

    def negatives(self, most: int) -> tuple[Tensor, Tensor]:
        """Return rows and columns [P] of all negatives, or of about `most` of them, drawn alike for the same labels."""
        queries, columns = len(self.query), len(self.query) + len(self.distractors)
        device = self.labels.device
        if self.total <= most:
            numbers = torch.arange(queries * columns, device=device)
        else:
            chance = torch.Generator().manual_seed(0)
            drawn = torch.randint(queries * columns, (round(most * queries * columns / self.total),), generator=chance)
            numbers = torch.unique(drawn).to(device)
        rows, other = numbers // columns, numbers % columns
        counts = other >= queries
        counts |= (rows < other) & (self.labels[rows] != self.labels[other.clamp(max=queries - 1)])
        return rows[counts], other[counts]

    def exact(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the scores of pairs [P], computed one by one."""
        queries = len(self.query)
        found = torch.empty_like(rows)
        inner = columns < queries
        found[inner] = exact_scores(self.query, rows[inner], self.query, columns[inner])
        outer = (~inner).nonzero().squeeze(1)
        outer = outer[columns[outer].argsort()]  # a file is read from front to back
        found[outer] = exact_scores(self.query, rows[outer], self.distractors, columns[outer] - queries)
        return found

    def jobs(self, number: int) -> Iterator[Job]:
        """Yield what yields the negatives of a block of columns; the columns in random order."""
        chance = torch.Generator().manual_seed(number)
        queries, width = len(self.query), self.columns
        unit = self.query.unit(slice(None))
        runs = torch.randperm(-(-len(self.distractors) // _RUN), generator=chance)
        chosen = (runs.unsqueeze(1) * _RUN + torch.arange(_RUN)).flatten()
        others = list(torch.split(chosen[chosen < len(self.distractors)], width)) if len(runs) else []
        own = [slice(start, min(start + width, queries)) for start in range(0, queries, width)]
        blocks = [*own, *others]
        for at in torch.randperm(len(blocks), generator=chance).tolist():
            block = blocks[at]
            yield partial(self._inner, unit, block) if isinstance(block, slice) else partial(self._outer, unit, block)

    def _inner(self, unit: Tensor, block: slice) -> Iterator[Tile]:
        columns = torch.arange(block.start, block.stop, device=unit.device)
        for start, scores in products(unit[: block.stop], self.query, block, self.rows):
            rows = torch.arange(start, start + len(scores), device=unit.device)
            counts = (rows.unsqueeze(1) < columns) & (self.labels[rows].unsqueeze(1) != self.labels[columns])
            yield Tile(scores.masked_fill_(~counts, math.nan), start, columns, int(counts.sum()))

    def _outer(self, unit: Tensor, block: Tensor) -> Iterator[Tile]:
        block = block.to(unit.device)
        for start, scores in products(unit, self.distractors, block, self.rows):
            yield Tile(scores, start, block + len(self.query), scores.numel())


def scored_pairs(
    query: Tensor, distractors: Tensor, owners: Tensor, most: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """Return all positives, and all negatives or `most` of them, each with the people it is of; scores as above.

    Args:
        query: [Q, D].
        distractors: [M, D].
        owners: [Q + M] int64, who is on each image, query first.
        most: negatives to return; if there are more, they are drawn at random, alike for all embeddings of the same
            images.

    Returns:
        Positive scores, descending, and their person; negative scores, descending, and their people [2, T]; the share
        of the negatives they are. Scores are multiples of 2^-30 as int64; all on the CPU.
    """
    labels = owners[: len(query)]
    pairs = _Pairs(Directions(query), labels, Directions(distractors), _BLOCK)
    positive = [torch.stack(part).cpu() for part in pairs.positives()]
    found = torch.cat([torch.empty(2, 0, dtype=torch.int64), *positive], dim=1)
    rows, columns = pairs.negatives(most)
    scores = pairs.exact(rows, columns)
    share = len(scores) / max(1, pairs.total)
    found = found[:, found[0].argsort(descending=True)]
    order = scores.argsort(descending=True)
    people = torch.stack([owners[rows[order]], owners[columns[order]]])
    return found[0], found[1], scores[order].cpu(), people.cpu(), share
