"""Float32 products of very many pairs, and fast comparisons: they screen, float64 decides where it matters.

A float32 product of unit rows is off from the score by less than `Directions.slack`, in whatever order its sum is made;
so a comparison of float32 scores that are further apart is decided, and only pairs in between are computed again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossbench.metrics.exact.directions import Directions, on_cpu
from lossbench.utils.threads import Scratch


class Tile(NamedTuple):
    """Some of the scores: float32 [n, m], NaN where a pair does not count; its first row, and its columns [m].

    `pairs` is how many count. The scores are valid until the next tile is requested.
    """

    scores: Tensor
    rows: int
    columns: Tensor
    pairs: int

    def places(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows [P] and columns [P] of some positions [P] in reading order."""
        width = len(self.columns)
        return self.rows + positions // width, self.columns[positions % width]


Job = Callable[[], Iterator[Tile]]  #: yields the tiles of one block of columns


def products(
    rows: Tensor, columns: Directions, chosen: slice | Tensor, block: int, scratch: Scratch
) -> Iterator[tuple[int, Tensor]]:
    """Yield the float32 products of `rows` [N, D] with some columns, `block` rows at a time: first row, [n, m].

    A product lies in `scratch` until the next one. Call it within `full_precision`.

    Example:
        >>> columns = Directions(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))
        >>> with full_precision():
        ...     for start, product in products(torch.eye(2), columns, slice(0, 2), block=1, scratch=Scratch()):
        ...         print(start, product)
        0 tensor([[1., 0.]])
        1 tensor([[0., 1.]])
    """
    others = columns.unit(chosen, scratch)
    for start in range(0, len(rows), block):
        own = rows[start : start + block]
        product = scratch("product", len(own), len(others), dtype=torch.float32, device=rows.device)
        yield start, torch.mm(own, others.T, out=product)


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep float32 products float32 in here: TF32 or bfloat16 would be off by more than the slack.

    Example:
        >>> with full_precision():
        ...     product = torch.eye(1) @ torch.full((1, 1), 1 + 2**-20)
        >>> product.item() == 1 + 2**-20
        True
    """
    backends = [backend.matmul for backend in (torch.backends.cuda, torch.backends.mkldnn)]
    if all(hasattr(matmul, "fp32_precision") for matmul in backends):  # torch 2.9 and later
        before = [matmul.fp32_precision for matmul in backends]
        for matmul in backends:
            matmul.fp32_precision = "ieee"
        try:
            yield
        finally:
            for matmul, precision in zip(backends, before, strict=True):
                matmul.fp32_precision = precision
        return
    legacy = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(legacy)


def masks(tile: Tile, scratch: Scratch) -> tuple[Tensor, Tensor]:
    """Return two masks in the shape of a tile's scores, in `scratch` until the next call; their content is arbitrary.

    Example:
        >>> one, other = masks(Tile(torch.zeros(2, 3), 0, torch.arange(3), pairs=6), Scratch())
        >>> one.shape, other.dtype
        (torch.Size([2, 3]), torch.bool)
    """
    shape, device = tile.scores.shape, tile.scores.device
    one, other = scratch("masks", 2, *shape, dtype=torch.bool, device=device)
    return one, other


def above(scores: Tensor, edge: float | Tensor, out: Tensor | None = None) -> Tensor:
    """Return which `scores` [n, m] lie strictly above `edge`, one or one a row [n] (bool); NaN lies nowhere.

    The answer is written into `out` [n, m] where it is given: allocating memory costs more than the comparison.

    Example:
        >>> above(torch.tensor([[0.5, 0.25], [0.5, float("nan")]]), 0.25)
        tensor([[ True, False],
                [ True, False]])
    """
    edges = edge.unsqueeze(1) if isinstance(edge, Tensor) else edge
    if not on_cpu(scores.device):
        return torch.gt(scores, edges, out=out)
    # numpy compares four times as fast as torch on a processor
    bound = edges.numpy() if isinstance(edges, Tensor) else np.float32(edges)
    return torch.from_numpy(np.greater(scores.numpy(), bound, out=None if out is None else out.numpy()))


def count(mask: Tensor) -> int:
    """Return how many entries are True.

    Example:
        >>> count(torch.tensor([True, False, True]))
        2
    """
    return int(np.count_nonzero(mask.numpy()) if on_cpu(mask.device) else mask.count_nonzero())


def tally(mask: Tensor) -> int | Tensor:
    """Do what `count` does without waiting for a GPU, which gives a tensor [] that it fills in later.

    Example:
        >>> tally(torch.tensor([True, False, True]))
        2
    """
    return count(mask) if on_cpu(mask.device) else mask.count_nonzero()


def where(mask: Tensor) -> Tensor:
    """Return the positions of the True entries of `mask` in reading order: int64 [n].

    Example:
        >>> where(torch.tensor([[True, False], [False, True]]))
        tensor([0, 3])
    """
    if on_cpu(mask.device):
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.flatten().nonzero().squeeze(1)
