"""The k-th largest of very many scores, exactly, in memory that grows with rows and columns but not with their product.

The scores stream by as float32 products, in blocks of columns in random order. For every wanted rank a bracket is kept
around where it should lie, judging from what has been seen: scores above it are counted, scores in it are kept, and
whenever more are kept than fit, the bracket narrows around the rank. At the end the few that lie within rounding error
of the rank are computed in float64; where an embedding has collapsed these are most pairs, and take their time. Should
the rank have escaped its bracket, which counting shows, another pass looks for it there.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossbench.metrics.directions import GRID
from lossbench.metrics.products import Job, Tile, above, count, where

#: rows [P] and columns [P] -> their exact scores [P], int64
Exact = Callable[[Tensor, Tensor], Tensor]

_KEPT = 16_000_000  # scores of all ranks together, each with its row and column: 12 bytes
_LEAST = 250_000  # of one rank
_FEW = 4  # blocks before threads of our own are worth it


class Ranked(NamedTuple):
    """An order statistic: its exact score, and how many scores lie strictly above it."""

    score: int
    above: int


def order_statistics(
    jobs: Callable[[int], Iterator[Job]],
    exact: Exact,
    ranks: Sequence[int],
    total: int,
    slack: float,
    *,
    kept: int = _KEPT,
    threads: int = 1,
) -> list[Ranked]:
    """Return the (k+1)-th largest score for every rank k.

    Args:
        jobs: called with the number of the pass; yields functions that yield all scores, block by block, in an order
            that does not depend on the scores.
        exact: computes scores again, as whole numbers; an order statistic is one of these.
        ranks: each in 0..total-1.
        total: how many scores there are.
        slack: no float32 score is further than this from its exact one, in the unit of the float32 scores.
        kept: how many scores may be kept. Scores within `slack` of a rank are kept as values with their counts where
            they are more.
        threads: blocks to work on at a time; of use on a processor alone.
    """
    places = _Places(exact)
    searches = {rank: _Search(rank, total, _share(rank, ranks, kept), slack, places) for rank in sorted(set(ranks))}
    found: dict[int, Ranked] = {}
    number = 0
    while len(found) < len(searches):
        open_searches = [search for rank, search in searches.items() if rank not in found]
        places.forget()
        _stream(_in_threads(jobs(number), open_searches, threads), open_searches, places)
        for search in open_searches:
            if (ranked := search.settle()) is not None:
                found[search.rank] = ranked
        number += 1
    return [found[rank] for rank in ranks]


def _share(rank: int, ranks: Sequence[int], kept: int) -> int:
    """Deep ranks need more: what is uncertain of a rank is a share of it."""
    return max(_LEAST, math.ceil(kept * (rank + 1) / sum(other + 1 for other in set(ranks))))


class _Places:
    """Where the kept scores are: a tile's number and a position in it, turned into rows and columns when needed."""

    def __init__(self, exact: Exact):
        self.exact = exact
        self.forget()

    def forget(self) -> None:
        self.blocks: list[Tensor] = []  # columns, which the tiles of a block share
        self.tiles: list[tuple[int, int]] = []  # block and first row

    def number(self, tile: "_Screened") -> int:
        if not self.blocks or self.blocks[-1] is not tile.columns:
            self.blocks.append(tile.columns)
        self.tiles.append((len(self.blocks) - 1, tile.rows))
        return len(self.tiles) - 1

    def scores(self, tiles: Tensor, positions: Tensor) -> Tensor:
        """Return the exact scores [P] at some positions of some tiles."""
        block, row = torch.tensor(self.tiles, device=positions.device)[tiles.long()].unbind(1)
        widths = torch.tensor([len(columns) for columns in self.blocks], device=positions.device)
        starts = widths.cumsum(0) - widths
        rows, columns = row + positions // widths[block], starts[block] + positions % widths[block]
        return self.exact(rows, torch.cat(self.blocks)[columns])


class _Screened(NamedTuple):
    """What a tile holds for some searches: scores in one of their brackets, where they are in it, how many lie above.

    `brackets` are those it was screened with; they may have narrowed since.
    """

    brackets: list[tuple[float, float]]
    beyond: list[int]
    values: Tensor
    positions: Tensor
    rows: int
    columns: Tensor
    pairs: int


def _screen(tile: Tile, searches: "Sequence[_Search]") -> _Screened:
    brackets = [search.bracket for search in searches]
    edges = {edge: above(tile.scores, edge) for bracket in brackets for edge in bracket}
    numbers = {high: count(edges[high]) for high in {high for _, high in brackets}}
    first, *others = _ends(brackets)
    inside = edges[first].clone()
    for edge in others:
        inside.logical_xor_(edges[edge])
    at = where(inside)
    values = tile.scores.flatten().index_select(0, at)
    beyond = [numbers[high] for _, high in brackets]
    return _Screened(brackets, beyond, values, at.to(torch.int32), tile.rows, tile.columns, tile.pairs)


def _stream(tiles: Iterator[_Screened], searches: "Sequence[_Search]", places: _Places) -> None:
    for tile in tiles:
        number = places.number(tile)
        for search, bracket, beyond in zip(searches, tile.brackets, tile.beyond, strict=True):
            search.add(tile, bracket, beyond, number)


def _in_threads(jobs: Iterator[Job], searches: "Sequence[_Search]", threads: int) -> Iterator[_Screened]:
    """Screen one tile after another; of many blocks all but the first few on several threads, a block each.

    A thread that multiplies and compares by itself wastes no time on the others, and numpy compares on one thread. The
    first blocks, in which every score is in the brackets, are gone through tile by tile.
    """
    before = torch.get_num_threads()
    for job in islice(jobs, _FEW):
        for tile in job():
            yield _screen(tile, searches)
    if threads == 1:
        for job in jobs:
            for tile in job():
                yield _screen(tile, searches)
        return

    def work(job: Job) -> list[_Screened]:
        return [_screen(tile, searches) for tile in job()]

    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[list[_Screened]]] = deque()
            for job in jobs:
                waiting.append(pool.submit(work, job))
                if len(waiting) > threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
    finally:
        torch.set_num_threads(before)


def _ends(brackets: list[tuple[float, float]]) -> list[float]:
    """Return the ends of the union of brackets: a score is in it if it is above an odd number of them."""
    ends: list[float] = []
    for low, high in sorted(brackets):
        if ends and low <= ends[-1]:
            ends[-1] = max(ends[-1], high)
        else:
            ends += [low, high]
    return ends


class _Search:
    """The search for one rank: a bracket `low` < score <= `high`, and what lies in it."""

    def __init__(self, rank: int, total: int, capacity: int, slack: float, places: _Places):
        self.rank, self.total, self.capacity, self.places = rank, total, capacity, places
        self.slack, self.margin = slack, 2 * slack
        self.bounds = -math.inf, math.inf  # the rank lies in here for sure
        self._start()

    def _start(self) -> None:
        self.low, self.high = (float(np.float32(bound)) for bound in self.bounds)
        self.above = self.seen = self.held = 0
        self.parts: list[tuple[Tensor, Tensor, Tensor]] = []  # score, number of its tile, position in there
        self.cells: tuple[Tensor, Tensor] | None = None  # exact scores and their counts, where too many lie too close

    @property
    def bracket(self) -> tuple[float, float]:
        """`low` and `high`."""
        return self.low, self.high

    def add(self, tile: _Screened, bracket: tuple[float, float], beyond: int, number: int) -> None:
        """Take up a tile: `beyond` of its scores lie above the `bracket` that it was screened with."""
        self.seen += tile.pairs
        values = tile.values
        inside = (values > self.low) & (values <= self.high)
        self.above += beyond
        if bracket[1] > self.high:  # narrowed since
            self.above += count((values > self.high) & (values <= bracket[1]))
        values, positions = values[inside], tile.positions[inside]
        if self.cells is not None:
            at = positions.long()
            scores = self.places.exact(tile.rows + at // len(tile.columns), tile.columns[at % len(tile.columns)])
            self.cells = _merged(self.cells, scores)
            return
        self.parts.append((values, torch.full_like(positions, number), positions))
        self.held += len(values)
        if self.held > self._capacity():
            self._narrow()

    def _capacity(self) -> int:
        """How many to keep now: what is uncertain of the rank grows as the root of what was seen."""
        return max(min(self.capacity, _LEAST), round(self.capacity * math.sqrt(self.seen / self.total)))

    def _narrow(self) -> None:
        values, tiles, positions = self._kept()
        position = round(self.rank * (self.seen / self.total)) - self.above  # where the rank should be among them
        half = self._capacity() // 4
        first, last = min(max(position - half, 0), self.held - half), max(position + half, half)
        upper, lower = _largest(values, [max(first, 0), min(last, self.held - 1)])
        if first > 0:
            self.high = min(self.high, _float32(upper + self.margin))
        if last < self.held - 1:
            self.low = max(self.low, _float32(lower - self.margin))
        beyond = values > self.high
        self.above += count(beyond)
        inside = (values > self.low) & ~beyond
        values, tiles, positions = values[inside], tiles[inside], positions[inside]
        self.held = len(values)
        self.parts = [(values, tiles, positions)]
        if self.held > self._capacity() * 3 // 4:  # they cannot be told apart in float32
            none = positions.new_zeros(0, dtype=torch.int64)
            self.cells = _merged((none, none), self.places.scores(tiles, positions))
            self.parts = []

    def settle(self) -> Ranked | None:
        """Return the order statistic after a whole pass; None where it has escaped, and another pass is needed."""
        return self._settle_scores() if self.cells is None else self._settle_cells(*self.cells)

    def _settle_scores(self) -> Ranked | None:
        values, tiles, positions = self._kept()
        position = self.rank - self.above
        if not 0 <= position < self.held:
            return self._escaped(position)
        (middle,) = _largest(
            values, [position]
        )  # off from the order statistic by no more than any score from its exact one
        if middle + self.margin > self.high or middle - self.margin < self.low:
            return self._again(middle - 2 * self.margin, middle + 2 * self.margin)
        higher = values > _float32(middle + self.margin)
        near = (values >= _float32(middle - self.margin)) & ~higher
        scores = self.places.scores(tiles[near], positions[near]).sort(descending=True).values
        score = int(scores[position - count(higher)])
        return Ranked(score, self.above + count(higher) + count(scores > score))

    def _settle_cells(self, scores: Tensor, counts: Tensor) -> Ranked | None:
        position = self.rank - self.above
        if not 0 <= position < int(counts.sum()):
            return self._escaped(position)
        through = counts.flip(0).cumsum(0).flip(0)  # at or above each
        at = int((through > position).nonzero().max())
        score = int(scores[at])
        if score / GRID + self.slack > self.high or score / GRID - self.slack < self.low:
            return self._again(score / GRID - 2 * self.margin, score / GRID + 2 * self.margin)
        return Ranked(score, self.above + int(through[at] - counts[at]))

    def _escaped(self, position: int) -> Ranked | None:
        low, high = self.bounds
        return self._again(self.high - self.margin, high) if position < 0 else self._again(low, self.low + self.margin)

    def _again(self, low: float, high: float) -> Ranked | None:
        self.bounds = low, high
        self._start()
        return None

    def _kept(self) -> tuple[Tensor, Tensor, Tensor]:
        values, tiles, positions = (torch.cat(part) for part in zip(*self.parts, strict=True))
        return values, tiles, positions


def _largest(values: Tensor, positions: Sequence[int]) -> list[float]:
    """Return the values at some positions, from 0, of the descending order."""
    places = [len(values) - 1 - position for position in positions]
    ordered = np.partition(values.cpu().numpy(), places)
    return [float(ordered[place]) for place in places]


def _float32(edge: float) -> float:
    return float(np.float32(edge))


def _merged(cells: tuple[Tensor, Tensor], scores: Tensor) -> tuple[Tensor, Tensor]:
    values, where_ = torch.unique(torch.cat([cells[0], scores]), return_inverse=True)
    weights = torch.cat([cells[1], torch.ones_like(scores)])
    return values, torch.zeros_like(values).index_add_(0, where_, weights)
