"""The pairs that people unseen in training are measured by: of one person, of two, and with distractors."""

import math
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from lossbench.metrics.exact.directions import GRID, Directions, at_once, exact_scores, on_cpu
from lossbench.metrics.exact.products import Job, Tile, above, count, full_precision, masks, products, where
from lossbench.utils.threads import Scratch, in_threads, threads_for

BLOCK = 2048  # columns of one product, and a quarter as many rows: 4 MiB stay near while they are compared
_ON_GPU = 16384  # columns there: 256 MiB, in which a product takes so long that what starts it costs nothing
_START = 512  # columns of the first products, every score of which is kept, where blocks are wider than BLOCK
_ROWS = 512  # of one float64 product
_WIDTH = 8192  # columns of one, of which all are kept in float64: 32 MiB each
_WORTH = 16  # products of whole blocks take less time than one pair computed by itself
RUN = 64  # neighbouring distractors read together: files are read in runs, people lie in runs


class Pairs:
    """All pairs of two query images and of a query image with a distractor image; positives show one person.

    Rows are query images, columns these and then the distractors.

    Args:
        query: [Q, D].
        labels: [Q] integers, who is on each.
        distractors: [M, D], of people who are not in the query.
        block: columns of one product, and four times its rows; None chooses what suits the device.

    Raises:
        ValueError: shapes that do not fit.
    """

    def __init__(self, query: Directions, labels: Tensor, distractors: Directions, block: int | None = None):
        if query.embeddings.shape[1] != distractors.embeddings.shape[1] or labels.shape != (len(query),):
            shapes = tuple(query.embeddings.shape), tuple(labels.shape), tuple(distractors.embeddings.shape)
            raise ValueError(f"query, query_labels and distractors {shapes} must be [Q, D], [Q] and [M, D]")
        labels = labels.to(query.norms.device)
        self.query, self.labels, self.distractors = query, labels, distractors
        if block is None:
            block = BLOCK if on_cpu(query.norms.device) else _ON_GPU
        self.rows, self.columns, self.scratch = max(1, block // 4), block, Scratch()
        own = torch.unique(labels, return_counts=True)[1].to(torch.int64)
        self.within = (len(labels) ** 2 - int((own**2).sum())) // 2  # pairs of two query images of different people
        self.same = int((own * (own - 1)).sum()) // 2  # positives
        self.total = self.within + len(query) * len(distractors)

    def matched(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield rows and columns of all pairs of two query images of one person, in parts: [P], [P]."""
        order = self.labels.argsort()
        for apart in range(1, len(order)):
            i, j = order[:-apart], order[apart:]
            same = self.labels[i] == self.labels[j]
            if not bool(same.any()):
                return  # no person has more images
            yield i[same], j[same]

    def positives(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the scores of pairs of two query images of one person and the person, in parts: [P], [P]."""
        for i, j in self.matched():
            yield exact_scores(self.query, i, self.query, j), self.labels[i]

    def negatives(self, most: int) -> tuple[Tensor, Tensor]:
        """Return rows and columns [P] of all negatives, or of about `most` of them, the same ones for the same labels.

        With the query images ordered by person, the negatives of each that come after it lie in one run.
        """
        order = self.labels.argsort(stable=True)
        ordered = self.labels[order]
        first = torch.searchsorted(ordered, ordered, right=True)  # of the images of the people that follow
        ends = (len(order) - first + len(self.distractors)).cumsum(0)
        if self.total <= most:
            numbers = torch.arange(self.total, device=order.device)
        else:
            chance = torch.Generator().manual_seed(0)
            numbers = torch.unique(torch.randint(self.total, (most,), generator=chance).to(order.device))
        rows = torch.searchsorted(ends, numbers, right=True)
        columns = len(order) + len(self.distractors) - (ends[rows] - numbers)
        inner = columns < len(order)
        columns[inner] = order[columns[inner]]
        return order[rows], columns

    def above(self, cut: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return rows, columns and scores [P] of the negatives that score above a cut (a multiple of 1/GRID)."""
        with full_precision():
            blocks = in_threads(partial(self._above, cut), self.jobs(0), threads_for(self.query.embeddings.device))
            rows, columns, scores = torch.cat(list(blocks), dim=1)
        return rows, columns, scores

    def _above(self, cut: int, job: Job) -> Tensor:
        parts = []
        for tile in job():
            perhaps, _ = masks(tile, self.scratch)
            rows, columns = tile.places(where(above(tile.scores, cut / GRID - self.query.slack, out=perhaps)))
            found = torch.stack([rows, columns, self.exact(rows, columns)])
            parts.append(found[:, found[2] > cut])
        return torch.cat(parts, dim=1)

    def accepted(self, cuts: Sequence[int]) -> tuple[list[int], list[int]]:
        """Return how many positives and how many negatives score above each cut (multiples of 1/GRID)."""
        positives = [0] * len(cuts)
        for scores, _ in self.positives():
            positives = [n + int((scores > cut).sum()) for n, cut in zip(positives, cuts, strict=True)]
        negatives = [0] * len(cuts)
        with full_precision():
            blocks = in_threads(partial(self._alarms, cuts), self.jobs(0), threads_for(self.query.embeddings.device))
            for alarms in blocks:
                negatives = [a + b for a, b in zip(negatives, alarms, strict=True)]
        return positives, negatives

    def _alarms(self, cuts: Sequence[int], job: Job) -> list[int]:
        alarms = [0] * len(cuts)
        for tile in job():
            surely, perhaps = masks(tile, self.scratch)
            for i, cut in enumerate(cuts):
                above(tile.scores, cut / GRID + self.query.slack, out=surely)
                above(tile.scores, cut / GRID - self.query.slack, out=perhaps)
                near = where(perhaps.logical_xor_(surely))
                alarms[i] += count(surely) + count(self.exact(*tile.places(near)) > cut)
        return alarms

    def exact(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the scores of pairs [P]: computed one by one, or by products where they are a large share of all."""
        queries = len(self.query)
        if len(rows) * _WORTH > queries * (queries + len(self.distractors)):
            return self._by_products(rows, columns)
        return self._one_by_one(rows, columns)

    def _one_by_one(self, rows: Tensor, columns: Tensor) -> Tensor:
        queries, found = len(self.query), torch.empty_like(rows)
        inner = columns < queries
        found[inner] = exact_scores(self.query, rows[inner], self.query, columns[inner])
        outer = (~inner).nonzero().squeeze(1)
        outer = outer[columns[outer].argsort()]  # a file is read from front to back
        found[outer] = exact_scores(self.query, rows[outer], self.distractors, columns[outer] - queries)
        return found

    def _by_products(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the same scores from float64 products, except where these are too near half a step of the grid."""
        found, width = torch.empty_like(rows), at_once(_WIDTH, rows.device)
        everyone = len(self.query) + len(self.distractors)
        if everyone <= width:
            return self._products_with(0, everyone, rows, columns)
        block = columns // width
        order = block.argsort(stable=True)
        edges = torch.searchsorted(block[order], torch.arange(-(-everyone // width) + 1, device=rows.device)).tolist()
        for number, (first, last) in enumerate(pairwise(edges)):
            at = order[first:last]
            found[at] = self._products_with(number * width, (number + 1) * width, rows[at], columns[at])
        return found

    def _products_with(self, first: int, last: int, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the scores of pairs whose columns lie in first..last-1."""
        found, others = torch.empty_like(rows), self._unit(first, last)
        for start in range(0, len(self.query), _ROWS):
            at = where((rows >= start) & (rows < start + _ROWS))
            if not len(at):
                continue
            own, other = rows[at] - start, columns[at] - first
            skipped = int(other.min())
            product = self._unit(start, min(start + _ROWS, len(self.query))) @ others[skipped:].T
            steps = product.flatten().index_select(0, own * product.shape[1] + other - skipped).mul_(GRID)
            found[at] = steps.round().to(torch.int64)
            near = at[where((steps - steps.floor() - 0.5).abs_() < self.query.doubt)]
            found[near] = self._one_by_one(rows[near], columns[near])
        return found

    def _unit(self, first: int, last: int) -> Tensor:
        """Return the float64 directions of columns first..last-1."""
        parts = []
        for own, offset in ((self.query, 0), (self.distractors, len(self.query))):
            some = slice(max(0, first - offset), max(0, last - offset))
            parts.append(own.embeddings[some].to(torch.float64) / own.norms[some].unsqueeze(1))
        return torch.cat(parts)

    def jobs(self, number: int) -> Iterator[Job]:
        """Yield what yields the negatives of a block of columns; the columns in random order."""
        chance = torch.Generator().manual_seed(number)
        queries, width = len(self.query), self.columns
        unit = self.query.unit(slice(None))
        runs = torch.randperm(-(-len(self.distractors) // RUN), generator=chance)
        chosen = (runs.unsqueeze(1) * RUN + torch.arange(RUN)).flatten()
        others = list(torch.split(chosen[chosen < len(self.distractors)], width)) if len(runs) else []
        own = [slice(start, min(start + width, queries)) for start in range(0, queries, width)]
        blocks = [*own, *others]
        shuffled = [blocks[at] for at in torch.randperm(len(blocks), generator=chance).tolist()]
        if width > BLOCK and shuffled:
            shuffled[:1] = _narrow(shuffled[0])
        for block in shuffled:
            yield partial(self.inner, unit, block) if isinstance(block, slice) else partial(self.outer, unit, block)

    def inner(self, unit: Tensor, block: slice) -> Iterator[Tile]:
        """Yield the negatives of some query images, as columns, with those before them; `unit` holds all directions."""
        columns = torch.arange(block.start, block.stop, device=unit.device)
        for start, scores in products(unit[: block.stop], self.query, block, self.rows, self.scratch):
            rows = torch.arange(start, start + len(scores), device=unit.device)
            counts = (rows.unsqueeze(1) < columns) & (self.labels[rows].unsqueeze(1) != self.labels[columns])
            yield Tile(scores.masked_fill_(~counts, math.nan), start, columns, int(counts.sum()))

    def outer(self, unit: Tensor, block: Tensor) -> Iterator[Tile]:
        """Yield the negatives of some distractors [n], as columns, with all query images."""
        block = block.to(unit.device)
        columns = block + len(self.query)
        for start, scores in products(unit, self.distractors, block, self.rows, self.scratch):
            yield Tile(scores, start, columns, scores.numel())


def _narrow(block: slice | Tensor) -> list[slice | Tensor]:
    """Return a block's first columns in four narrow parts, and the rest of it."""
    wide = block.stop - block.start if isinstance(block, slice) else len(block)
    edges = [*range(0, min(wide, 4 * _START), _START), *([4 * _START] if wide > 4 * _START else []), wide]
    offset = block.start if isinstance(block, slice) else 0
    parts = [slice(offset + start, offset + stop) for start, stop in pairwise(edges)]
    return list(parts) if isinstance(block, slice) else [block[part] for part in parts]


def scored_pairs(
    query: Tensor, distractors: Tensor, owners: Tensor, most: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, float]:
    """Return all positives, and all negatives or `most` of them, each with the people it is of; scores as above.

    Args:
        query: [Q, D].
        distractors: [M, D].
        owners: [Q + M] int64, who is on each image, query first.
        most: negatives to return; if there are more, they are drawn at random, the same ones for all embeddings
            of the same images.

    Returns:
        Positive scores, descending, and their person; negative scores, descending, and their people [2, T]; the share
        of the negatives they are. Scores are multiples of 2^-30 as int64; all on the embeddings' device.

    Example:
        >>> query, distractors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.0, -1.0]])
        >>> owners = torch.tensor([0, 0, 1, 2])
        >>> positives, person, negatives, people, share = scored_pairs(query, distractors, owners, most=10)
        >>> positives / GRID, person
        (tensor([1.]), tensor([0]))
        >>> negatives / GRID
        tensor([ 0.,  0.,  0.,  0., -1.])
        >>> people
        tensor([[0, 0, 0, 0, 1],
                [1, 2, 1, 2, 2]])
    """
    labels = owners[: len(query)]
    pairs = Pairs(Directions(query), labels, Directions(distractors))
    positive = [torch.stack(part) for part in pairs.positives()]
    found = torch.cat([torch.empty(2, 0, dtype=torch.int64, device=owners.device), *positive], dim=1)
    rows, columns = pairs.negatives(most)
    scores = pairs.exact(rows, columns)
    share = len(scores) / max(1, pairs.total)
    found = found[:, found[0].argsort(descending=True)]
    order = scores.argsort(descending=True)
    people = torch.stack([owners[rows[order]], owners[columns[order]]])
    return found[0], found[1], scores[order], people, share


def highest_pairs(query: Tensor, distractors: Tensor, owners: Tensor, cut: int) -> tuple[Tensor, Tensor]:
    """Return the scores of all negatives above a cut, descending, and their people [2, T]; as `scored_pairs` does.

    Example:
        >>> query, distractors = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8]])
        >>> scores, people = highest_pairs(query, distractors, torch.tensor([0, 0, 1, 2]), cut=GRID // 2)
        >>> scores / GRID
        tensor([0.8000, 0.6000, 0.6000])
        >>> people
        tensor([[1, 0, 0],
                [2, 2, 2]])
    """
    pairs = Pairs(Directions(query), owners[: len(query)], Directions(distractors))
    rows, columns, scores = pairs.above(cut)
    order = scores.argsort(descending=True)
    return scores[order], torch.stack([owners[rows[order]], owners[columns[order]]])
