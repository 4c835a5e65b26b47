"""The k-th largest of very many scores, exactly, in memory that grows with rows and columns but not with their product.

The scores stream by as float32 products, in blocks of columns in random order. For every wanted rank a bracket is kept
around where it should lie, judging from what has been seen: scores above it are counted, scores in it are kept, and
whenever more are kept than fit, the bracket narrows around the rank. At the end the few that lie within rounding error
of the rank are computed in float64; where an embedding has collapsed these are most pairs, and take their time. Should
the rank have escaped its bracket, which counting shows, another pass looks for it there.
"""

import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossbench.metrics.exact.directions import GRID, on_cpu
from lossbench.metrics.exact.products import Job, Tile, above, count, masks, tally, where
from lossbench.utils.threads import Scratch, in_threads

#: rows [P] and columns [P] -> their exact scores [P], int64
Exact = Callable[[Tensor, Tensor], Tensor]

_KEPT = 16_000_000  # scores of all ranks together, each with its row and column: 12 bytes
_LEAST = 250_000  # of one rank
_AT_ONCE = 250_000  # places whose exact scores are computed together
_CROWD = 3  # times as many may lie within rounding error of a rank and be kept as well
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
    stride: int,
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
        stride: more than any column's number.
        kept: how many scores may be kept that float32 tells from a rank, and `_CROWD` times as many that it does not;
            where these are more, they are kept as exact values with their counts.
        threads: blocks to work on at a time; of use on a processor alone.

    Raises:
        ValueError: a rank that is out of range.

    Example:
        >>> scores = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
        >>> tile = Tile(scores, 0, torch.arange(2), pairs=4)
        >>> exact = lambda rows, columns: (scores[rows, columns] * GRID).to(torch.int64)
        >>> jobs = lambda number: iter([lambda: iter([tile])])
        >>> found = order_statistics(jobs, exact, ranks=[0, 2], total=4, slack=1e-6, stride=2)
        >>> [(ranked.score / GRID, ranked.above) for ranked in found]
        [(0.75, 0), (0.5, 1)]
    """

    def screened(number: int, searches: Sequence[Search]) -> Generator[Iterable[Screened]]:
        return _screened(jobs(number), searches, stride, threads)

    return of_passes(screened, exact, ranks, total, slack, stride, kept=kept)


def of_passes(
    screened: "Callable[[int, Sequence[Search]], Generator[Iterable[Screened]]]",
    exact: Exact,
    ranks: Sequence[int],
    total: int,
    slack: float,
    stride: int,
    *,
    kept: int = _KEPT,
) -> list[Ranked]:
    """Return what `order_statistics` returns, of scores that others screen, wherever they do it.

    Args:
        screened: called with the number of the pass and the searches of it; yields, part by part, what all scores
            hold for each of these. A search's bracket may narrow whenever a part has been taken.
        exact: as there, like all that follow.

    Raises:
        ValueError: a rank that is out of range, or a pass that does not show every score once.

    Example:
        >>> tile = Tile(torch.tensor([[0.75, 0.25], [0.5, 0.5]]), 0, torch.arange(2), pairs=4)
        >>> def screened(number, searches):
        ...     yield screen([tile], [search.bracket for search in searches], 2, Scratch())
        >>> exact = lambda rows, columns: (tile.scores[rows, columns] * GRID).to(torch.int64)
        >>> [ranked.score / GRID for ranked in of_passes(screened, exact, [0, 2], total=4, slack=1e-6, stride=2)]
        [0.75, 0.5]
    """
    if wrong := [rank for rank in ranks if not 0 <= rank < total]:
        raise ValueError(f"rank {wrong[0]} is not in 0..{total - 1}")
    by_place = partial(_by_place, exact, stride)
    searches = {rank: Search(rank, total, _share(rank, ranks, kept), slack, by_place) for rank in sorted(set(ranks))}
    found: dict[int, Ranked] = {}
    number = 0
    while len(found) < len(searches):
        open_searches = [search for rank, search in searches.items() if rank not in found]
        with closing(screened(number, open_searches)) as parts:
            for part in parts:
                for search, held in zip(open_searches, part, strict=True):
                    search.add(held)
        if wrong := [search.seen for search in open_searches if search.seen != total]:
            raise ValueError(f"a pass has shown {wrong[0]} of {total} scores; let all tasks run the same lossbench")
        for search in open_searches:
            if (ranked := search.settle()) is not None:
                found[search.rank] = ranked
        number += 1
    return [found[rank] for rank in ranks]


def _by_place(exact: Exact, stride: int, places: Tensor) -> Tensor:
    return exact(places // stride, places % stride)


def _share(rank: int, ranks: Sequence[int], kept: int) -> int:
    """Deep ranks need more: their uncertainty is a share of the rank."""
    return max(_LEAST, math.ceil(kept * (rank + 1) / sum(other + 1 for other in set(ranks))))


class Screened(NamedTuple):
    """What some tiles hold for a search: scores in its bracket and their places, and how many of `pairs` lie above.

    The bracket may have narrowed since. For a search that counts exactly, `cells` may stand for scores and places:
    exact scores, each once and ascending, and how often each occurs.
    """

    values: Tensor
    places: Tensor
    beyond: int
    pairs: int
    cells: tuple[Tensor, Tensor] | None = None


def screen(
    tiles: Iterable[Tile], brackets: Sequence[tuple[float, float]], stride: int, scratch: Scratch
) -> Iterator[Screened]:
    """Return what some tiles hold for each bracket; kept once until it is asked for, whatever the number of ranks.

    Example:
        >>> tile = Tile(torch.tensor([[0.75, 0.25], [0.5, 0.125]]), 0, torch.arange(2), pairs=4)
        >>> (found,) = screen([tile], [(0.2, 0.5)], 2, Scratch())
        >>> found.values, found.places, found.beyond
        (tensor([0.2500, 0.5000]), tensor([1, 2]), 1)
    """
    first, *ends = _ends(brackets)
    higher: dict[float, int | Tensor] = dict.fromkeys((high for _, high in brackets), 0)  # how many lie above
    parts, pairs = [], 0
    for tile in tiles:
        inside, beyond = masks(tile, scratch)
        above(tile.scores, first, out=inside)
        for edge in {*ends, *higher}:
            above(tile.scores, edge, out=beyond)
            if edge in higher:
                higher[edge] += tally(beyond)
            if edge in ends:
                inside.logical_xor_(beyond)
        at = where(inside)
        row, column = tile.places(at)
        parts.append((tile.scores.flatten().index_select(0, at), row * stride + column))
        pairs += tile.pairs
    values, places = (torch.cat(part) for part in zip(*parts, strict=True))
    return (Screened(*_between(values, places, low, high), int(higher[high]), pairs) for low, high in brackets)


def _between(values: Tensor, places: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    inside = where((values > low) & (values <= high))
    return values.index_select(0, inside), places.index_select(0, inside)


def _screened(
    jobs: Iterator[Job], searches: "Sequence[Search]", stride: int, threads: int
) -> Generator[Iterator[Screened]]:
    """Screen one block after another, the first few, in which every score is in the brackets, tile by tile."""
    scratch = Scratch()
    for job in islice(jobs, _FEW):
        for tile in job():
            yield screen([tile], _brackets(searches), stride, scratch)
    yield from in_threads(lambda job: screen(job(), _brackets(searches), stride, scratch), jobs, threads)


def _brackets(searches: "Sequence[Search]") -> list[tuple[float, float]]:
    return [search.bracket for search in searches]


def _ends(brackets: Sequence[tuple[float, float]]) -> list[float]:
    """Return the ends of the union of brackets: a score is in it if it is above an odd number of them."""
    ends: list[float] = []
    for low, high in sorted(brackets):
        if ends and low <= ends[-1]:
            ends[-1] = max(ends[-1], high)
        else:
            ends += [low, high]
    return ends


class Search:
    """The search for one rank: a bracket `low` < score <= `high`, and what lies in it."""

    def __init__(self, rank: int, total: int, capacity: int, slack: float, exact: Callable[[Tensor], Tensor]):
        self.rank, self.total, self.exact = rank, total, exact
        self.capacity, self.least = capacity, min(capacity, _LEAST)  # to keep at the end, and from the start
        self.slack, self.margin = slack, 2 * slack
        self.bounds = -math.inf, math.inf  # the rank lies in here for sure
        self.found = False  # in float32: the bounds hold what lies within rounding error of it, and little else
        self._start()

    def _start(self) -> None:
        self.low, self.high = (float(np.float32(bound)) for bound in self.bounds)
        self.above = self.seen = self.held = self.near = 0
        self.parts: list[tuple[Tensor, Tensor]] = []  # scores and their places
        self.cells: tuple[Tensor, Tensor] | None = None  # exact scores and their counts, where too many lie too close

    @property
    def bracket(self) -> tuple[float, float]:
        """`low` and `high`."""
        return self.low, self.high

    def add(self, tiles: Screened) -> None:
        """Take up some tiles; what lies outside a bracket that has narrowed since is sorted out later."""
        self.seen += tiles.pairs
        self.above += tiles.beyond
        if tiles.cells is not None:
            assert self.cells is not None, "only a search that counts exactly is given cells"
            self.cells = joined(self.cells, tiles.cells)
            return
        self.parts.append((tiles.values, tiles.places))
        self.held += len(tiles.values)
        if self.cells is not None:
            self._count_exactly(self.cells)
        elif self.held > self._window() + self.near:
            self._narrow()

    def _window(self) -> int:
        """How many to keep that float32 tells apart: what is uncertain of a rank grows as the root of what was seen."""
        return max(self.least, round(self.capacity * math.sqrt(self.seen / self.total)))

    def _narrow(self) -> None:
        values = self._kept()[0]
        if self.held <= self._window() // 2 + self.near:
            return
        if not self.found:
            self._tighten(values)
        del values  # before these are copied again
        places = self._kept()[1]
        # They cannot be separated in float32.
        self.near = self.held if self.found else max(0, self.held - self._window() // 2)
        if self.near > _CROWD * self.capacity:
            self._count_exactly((places[:0], places[:0]))

    def _tighten(self, values: Tensor) -> None:
        position = round(self.rank * (self.seen / self.total)) - self.above  # where the rank should be among them
        half = self._window() // 4
        first, last = min(max(position - half, 0), self.held - half), max(position + half, half)
        first, last = max(first, 0), min(last, self.held - 1)
        upper, lower = _largest(values, [first, last])
        if first > 0:
            self.high = min(self.high, _float32(upper + self.margin))
        if last < self.held - 1:
            self.low = max(self.low, _float32(lower - self.margin))

    def _count_exactly(self, cells: tuple[Tensor, Tensor]) -> None:
        for places in torch.split(self._kept()[1], _AT_ONCE):
            cells = joined(cells, _counted(self.exact(places)))
        self.cells, self.parts, self.held = cells, [], 0

    def settle(self) -> Ranked | None:
        """Return the order statistic after a whole pass; None where it has escaped, and another pass is needed."""
        return self._settle_scores() if self.cells is None else self._settle_cells(*self.cells)

    def _settle_scores(self) -> Ranked | None:
        values, places = self._kept()
        position = self.rank - self.above
        if not 0 <= position < self.held:
            return self._escaped(position)
        # Off from the order statistic by no more than any score from its exact one.
        (middle,) = _largest(values, [position])
        most, least = _float32(middle + self.margin), _float32(middle - self.margin)
        if most > self.high or least < self.low:
            return self._around(middle)
        higher = values > most
        near = (values >= least) & ~higher
        scores = self.exact(places[near]).sort(descending=True).values
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
            return self._around(score / GRID)
        return Ranked(score, self.above + int(through[at] - counts[at]))

    def _escaped(self, position: int) -> Ranked | None:
        self.capacity, self.least = 2 * self.capacity, 2 * self.least  # or it might escape the same way again and again
        low, high = self.bounds
        return self._again(self.high - self.margin, high) if position < 0 else self._again(low, self.low + self.margin)

    def _around(self, score: float) -> Ranked | None:
        """Pass through all once more and keep what lies around the rank: other products may be off by another slack."""
        self.found = True
        return self._again(score - 3 * self.margin, score + 3 * self.margin)

    def _again(self, low: float, high: float) -> Ranked | None:
        self.bounds = low, high
        self._start()
        return None

    def _kept(self) -> tuple[Tensor, Tensor]:
        """Return scores and places of all that lie in the bracket, and drop the others."""
        values, places = (torch.cat(part) for part in zip(*self.parts, strict=True))
        self.parts = []
        beyond = count(values > self.high)
        if beyond or not bool((values > self.low).all()):
            self.above += beyond
            values, places = _between(values, places, self.low, self.high)
        self.held = len(values)
        self.parts = [(values, places)]
        return values, places


def _largest(values: Tensor, positions: Sequence[int]) -> list[float]:
    """Return the values at some positions, from 0, of the descending order."""
    places = [len(values) - 1 - position for position in positions]
    if on_cpu(values.device):
        ordered = np.partition(values.numpy(), places)
        return [float(ordered[place]) for place in places]
    ordered_there = values.sort().values
    chosen: list[float] = torch.stack([ordered_there[place] for place in places]).tolist()
    return chosen


def _float32(edge: float) -> float:
    return float(np.float32(edge))


def joined(cells: tuple[Tensor, Tensor], others: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return scores, each once and ascending, and their counts, of two such.

    Example:
        >>> joined((torch.tensor([1, 3]), torch.tensor([1, 1])), (torch.tensor([3, 2]), torch.tensor([5, 1])))
        (tensor([1, 2, 3]), tensor([1, 1, 6]))
    """
    values, where_ = torch.unique(torch.cat([cells[0], others[0]]), return_inverse=True)
    return values, torch.zeros_like(values).index_add_(0, where_, torch.cat([cells[1], others[1]]))


def _counted(scores: Tensor) -> tuple[Tensor, Tensor]:
    return scores, torch.ones_like(scores)
