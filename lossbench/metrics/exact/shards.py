"""Scores of query images and of distractors that lie in files, screened by tasks that run wherever these files are.

What a task takes and returns can be pickled and is small: names of files, numbers of rows and the brackets of the
searches; counts, and the scores in the brackets with their places. The embeddings themselves never travel.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossbench.errors import InputError
from lossbench.metrics.exact.directions import Directions
from lossbench.metrics.exact.order_statistics import Screened, Search, joined, screen
from lossbench.metrics.exact.pairs import BLOCK, RUN, Pairs
from lossbench.metrics.exact.products import Tile, full_precision
from lossbench.utils.text import shown
from lossbench.utils.threads import Scratch

_FEW = 4  # blocks that the caller screens itself, until the brackets are narrow
_BLOCKS = 4  # of a task: about a second
_PART = 1 << 18  # scores computed again at a time


class Waits(Protocol):
    """What a `concurrent.futures.Future` and its like have."""

    def result(self) -> Any:
        """Return what the task returned, or raise what it raised."""

    def cancel(self) -> Any:
        """Do not start the task if it has not been started."""


class Submits(Protocol):
    """What an executor of `concurrent.futures` and its like have."""

    def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Waits:
        """Start a task."""


class Array(NamedTuple):
    """An array in a .npy file, as the caller saw it."""

    path: str
    shape: tuple[int, ...]
    dtype: str
    written: int  # nanoseconds

    def mapped(self) -> npt.NDArray[Any]:
        """Return the array, memory-mapped.

        Raises:
            InputError: it is not there, or another one.
        """
        found, array = _mapped(Path(self.path))
        if found[1:3] != self[1:3]:
            raise InputError(f"{shown(Path(self.path))} is not the file that the command began with; start it again")
        return array


class Files(NamedTuple):
    """Where the embeddings of query images [Q, D], their labels [Q] and the distractors [M, D] lie."""

    query: Array
    labels: Array
    distractors: tuple[Array, ...]


class Block(NamedTuple):
    """Some columns: query images `first`..`last` - 1, or runs of distractors at such positions in the pass's order."""

    own: bool
    first: int
    last: int


def open_files(query: Path | str, labels: Path | str, distractors: Sequence[Path | str]) -> Files:
    """Return what the files hold.

    Raises:
        InputError: one cannot be read, or does not fit the others.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "query.npy", np.eye(3, dtype=np.float32))
        >>> np.save(folder / "labels.npy", [0, 0, 1])
        >>> open_files(folder / "query.npy", folder / "labels.npy", []).query.shape
        (3, 3)
    """
    files = Files(_array(query), _array(labels), tuple(map(_array, distractors)))
    for array in (files.query, *files.distractors):
        if len(array.shape) != 2 or array.dtype not in ("float16", "float32", "float64"):
            raise InputError(
                f"{shown(Path(array.path))} holds {array.dtype} {list(array.shape)}; embeddings are [N, D] of float16, "
                "float32 or float64"
            )
        if array.shape[1] != files.query.shape[1]:
            raise InputError(
                f"{shown(Path(array.path))} holds embeddings of {array.shape[1]} numbers and "
                f"{shown(Path(files.query.path))} of {files.query.shape[1]}; use those of one model"
            )
    if files.labels.shape != files.query.shape[:1] or np.dtype(files.labels.dtype).kind not in "iu":
        raise InputError(
            f"{shown(Path(files.labels.path))} holds {files.labels.dtype} {list(files.labels.shape)}; labels are "
            f"integers [{files.query.shape[0]}], one for each query image"
        )
    return files


def _array(path: Path | str) -> Array:
    return _mapped(Path(path))[0]


def _mapped(path: Path) -> tuple[Array, npt.NDArray[Any]]:
    try:
        array = np.lib.format.open_memmap(path, mode="r")
        written = path.stat().st_mtime_ns
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{shown(path)} cannot be read ({reason}); write the array with numpy.save") from error
    dtype = array.dtype.name if array.dtype.isnative else array.dtype.str
    return Array(str(path), array.shape, dtype, written), array


class Opened:
    """The files, mapped, and what every task needs of the query."""

    def __init__(self, files: Files):
        query, labels = (torch.from_numpy(np.array(array.mapped())) for array in (files.query, files.labels))
        self.files, self.maps = files, [array.mapped() for array in files.distractors]
        self.starts = np.cumsum([0, *(len(array) for array in self.maps)])
        self.count = int(self.starts[-1])
        self.runs = -(-self.count // RUN)
        self.pairs = Pairs(_directions(query, files.query), labels.to(torch.int64), Directions(query[:0]))
        self.unit = self.pairs.query.unit(slice(None)).clone()
        self.columns = len(query) + self.count
        self.scratch = Scratch()

    def with_rows(self, rows: Tensor) -> Pairs:
        """Return the pairs of the query and some distractors [n], numbered through all files, ascending."""
        wanted = rows.numpy()
        found = np.empty((len(wanted), self.pairs.query.embeddings.shape[1]), np.float64)
        edges = np.searchsorted(wanted, self.starts)
        for array, own, start, first, last in zip(
            self.maps, self.files.distractors, self.starts, edges, edges[1:], strict=False
        ):
            found[first:last] = array[wanted[first:last] - start]
            _directions(torch.from_numpy(found[first:last]), own, wanted[first:last] - start)
        return Pairs(self.pairs.query, self.pairs.labels, Directions(torch.from_numpy(found)))

    def tiles(self, number: int, block: Block) -> Iterator[Tile]:
        """Yield the scores of a block of the columns of a pass."""
        if block.own:
            yield from self.pairs.inner(self.unit, slice(block.first, block.last))
            return
        runs = _shuffled(self.runs, number)[block.first : block.last].sort().values
        rows = (runs.unsqueeze(1) * RUN + torch.arange(RUN)).flatten()
        rows = rows[rows < self.count]
        pairs = self.with_rows(rows)
        for tile in pairs.outer(self.unit, torch.arange(len(rows))):
            yield tile._replace(columns=len(self.unit) + rows)

    def exact(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Return the scores of pairs [P]."""
        found, order = torch.empty_like(rows), columns.argsort()
        for part in torch.split(order, _PART):
            others = columns[part] - len(self.unit)
            wanted, place = torch.unique(others.clamp_min(0), return_inverse=True)
            pairs = self.with_rows(wanted) if self.count else self.pairs
            found[part] = pairs.exact(rows[part], torch.where(others < 0, columns[part], len(self.unit) + place))
        return found


def _directions(embeddings: Tensor, array: Array, rows: npt.NDArray[Any] | None = None) -> Directions:
    """Return the directions, or refuse the first embedding that has none, by its file and row."""
    try:
        return Directions(embeddings)
    except ValueError as error:
        lengths = embeddings.to(torch.float64).norm(dim=1)
        wrong = int((~((lengths > 0) & lengths.isfinite())).nonzero()[0])
        row = wrong if rows is None else rows[wrong]
        raise ValueError(
            f"{shown(Path(array.path))}: row {row} is zero or not finite; it has no direction to compare"
        ) from error


@lru_cache(maxsize=1)
def _opened(files: Files) -> Opened:
    return Opened(files)


@lru_cache(maxsize=1)
def _shuffled(runs: int, number: int) -> Tensor:
    return torch.randperm(runs, generator=torch.Generator().manual_seed(number))


def screened_blocks(
    files: Files,
    number: int,
    blocks: Sequence[Block],
    edges: Sequence[tuple[float, float]],
    exactly: Sequence[bool],
) -> list[tuple[Any, ...]]:
    """Be a task: return what some columns hold for each search.

    Args:
        files: where the embeddings lie.
        number: of the pass, which decides the order of the columns.
        blocks: the columns.
        edges: the bracket of each search.
        exactly: whether the search counts exact scores, because too many are too close for float32.

    Returns:
        The fields of a `Screened` for each search, as numpy arrays and numbers.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> np.save(folder / "query.npy", [[1.0, 0.0], [0.0, 2.0]])
        >>> np.save(folder / "labels.npy", [0, 1])
        >>> np.save(folder / "others.npy", [[0.6, 0.8]])
        >>> files = open_files(folder / "query.npy", folder / "labels.npy", [folder / "others.npy"])
        >>> ((values, places, beyond, pairs, cells),) = screened_blocks(
        ...     files, 0, [Block(False, 0, 1)], [(0.5, 0.7)], [False]
        ... )
        >>> values.round(3).tolist(), places.tolist(), beyond, pairs  # of row 0, column 2; row 1 has 0.8
        ([0.6000000238418579], [2], 1, 2)
    """
    opened = _opened(files)
    stride = opened.columns
    found = [_Found(stride, opened.exact, exact) for exact in exactly]
    with full_precision():
        for block in blocks:
            tiles = opened.tiles(number, block)
            groups: Iterable[Iterable[Tile]] = ([tile] for tile in tiles) if any(exactly) else [tiles]
            for group in groups:
                for one, held in zip(found, screen(group, edges, stride, opened.scratch), strict=True):
                    one.add(held)
    return [one.result() for one in found]


class _Found:
    """What a task has found for one search."""

    def __init__(self, stride: int, exact: Callable[[Tensor, Tensor], Tensor], exactly: bool):
        none = torch.zeros(0, dtype=torch.int64)
        self.stride, self.exact = stride, exact
        self.beyond = self.pairs = 0
        self.parts = [(torch.zeros(0), none)]
        self.cells = (none, none) if exactly else None

    def add(self, held: Screened) -> None:
        self.beyond += held.beyond
        self.pairs += held.pairs
        if self.cells is None:
            self.parts.append((held.values, held.places))
        else:
            scores = self.exact(held.places // self.stride, held.places % self.stride)
            self.cells = joined(self.cells, (scores, torch.ones_like(scores)))

    def result(self) -> tuple[Any, ...]:
        values, places = (torch.cat(part).numpy() for part in zip(*self.parts, strict=True))
        cells = self.cells and tuple(part.numpy() for part in self.cells)
        return values, places, self.beyond, self.pairs, cells  # torch would share memory between the processes


class Shards:
    """All pairs of query images and distractors in files: what `Pairs` is of tensors.

    Args:
        files: where they lie.
        executor: starts the tasks.
        in_flight: tasks that are handed over at a time.
    """

    def __init__(self, files: Files, executor: Submits, in_flight: int):
        self.files, self.executor, self.in_flight = files, executor, max(1, in_flight)
        self.opened = Opened(files)
        self.pairs, self.columns = self.opened.pairs, max(1, self.opened.columns)
        self.total = self.pairs.within + len(self.opened.unit) * self.opened.count
        self.exact = self.opened.exact

    def screened(self, number: int, searches: Sequence[Search]) -> Generator[Iterable[Screened]]:
        """Yield what all scores hold for each search, part by part: see `order_statistics.of_passes`."""
        blocks = self._blocks(number)
        with full_precision():
            for block in blocks[:_FEW]:
                for tile in self.opened.tiles(number, block):
                    edges = [search.bracket for search in searches]
                    yield screen([tile], edges, self.columns, self.opened.scratch)
        with closing(self._by_tasks(number, blocks[_FEW:], searches)) as results:
            for result in results:
                yield [_tensors(*fields) for fields in result]

    def _blocks(self, number: int) -> list[Block]:
        images, width = len(self.opened.unit), BLOCK // RUN
        own = [Block(True, first, min(first + BLOCK, images)) for first in range(0, images, BLOCK)]
        runs = self.opened.runs
        blocks = own + [Block(False, first, min(first + width, runs)) for first in range(0, runs, width)]
        order = torch.randperm(len(blocks), generator=torch.Generator().manual_seed(number))
        return [blocks[at] for at in order.tolist()]

    def _by_tasks(self, number: int, blocks: list[Block], searches: Sequence[Search]) -> Generator[Any]:
        waiting: deque[Waits] = deque()
        try:
            for first in range(0, len(blocks), _BLOCKS):
                edges, exactly = zip(*((search.bracket, search.cells is not None) for search in searches), strict=True)
                some = blocks[first : first + _BLOCKS]
                waiting.append(self.executor.submit(screened_blocks, self.files, number, some, edges, exactly))
                if len(waiting) >= self.in_flight:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenExecutor as error:
            raise InputError("a worker process died (out of memory?); start fewer workers") from error
        finally:
            for one in waiting:
                one.cancel()


def _tensors(
    values: npt.NDArray[Any],
    places: npt.NDArray[Any],
    beyond: int,
    pairs: int,
    cells: tuple[npt.NDArray[Any], npt.NDArray[Any]] | None,
) -> Screened:
    exact = None if cells is None else (_tensor(cells[0]), _tensor(cells[1]))
    return Screened(_tensor(values), _tensor(places), beyond, pairs, exact)


def _tensor(array: npt.NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.require(array, requirements="W"))  # Ray returns what cannot be written to
