"""Cosines of very many pairs: float32 products screen them block by block, float64 decides where it matters.

The score of a pair is its cosine in float64, rounded to a multiple of 2^-30: pairs whose cosines are equal in exact
arithmetic tie, whatever order sums are made in (cosines closer than 1e-9 may count as equal). A float32 product of
unit rows is off by less than `Directions.slack`, whatever order its sum is made in; so a comparison of float32 scores
that are further apart is decided, and only the pairs in between are computed again.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from lossbench.metrics.directions import GRID

_ROWS = 8192  # of one conversion to float64
_PAIRS = 512  # whose rows fit the cache together
_UNIT_ROUNDOFF = 2.0**-24  # of float32


class Directions:
    """Embeddings [N, D] of any norm, compared by direction; they may lie in a memory-mapped file.

    Raises:
        ValueError: not two dimensions, or an embedding that is zero or not finite.
    """

    def __init__(self, embeddings: Tensor):
        if embeddings.ndim != 2:
            raise ValueError(f"embeddings {tuple(embeddings.shape)} must be [N, D]")
        self.embeddings = embeddings
        norms = [rows.to(torch.float64).norm(dim=1) for rows in torch.split(embeddings, _ROWS)]
        self.norms = torch.cat(norms) if norms else embeddings.new_zeros(0, dtype=torch.float64)
        if not bool(((self.norms > 0) & self.norms.isfinite()).all()):
            raise ValueError("an embedding is zero or not finite; it has no direction to compare")

    def __len__(self) -> int:
        return len(self.embeddings)

    @property
    def slack(self) -> float:
        """More than any float32 product of two unit rows can be off from the pair's score.

        D products and D - 1 sums, each rounded, of factors that are rounded too: at most (D + 2) roundings of a sum of
        absolute products that Cauchy and Schwarz hold below 1 (Higham 2002, "Accuracy and Stability of Numerical
        Algorithms", eq. 3.5, whatever the order); half a step of the grid; and room for edges rounded to float32.
        """
        return 1.01 * (self.embeddings.shape[1] + 8) * _UNIT_ROUNDOFF + 1 / GRID

    def unit(self, rows: slice | Tensor) -> Tensor:
        """Return some rows with norm 1, float32 [n, D]."""
        chosen = self.embeddings[rows] if isinstance(rows, slice) else self.embeddings.index_select(0, rows)
        return (chosen.to(torch.float64) / self.norms[rows].unsqueeze(1)).to(torch.float32)


def exact_scores(a: Directions, i: Tensor, b: Directions, j: Tensor) -> Tensor:
    """Return the scores of the pairs (a[i], b[j]): [P] int64, multiples of 1/GRID."""
    found = [i.new_zeros(0, dtype=torch.int64)]
    for own, other in zip(torch.split(i, _PAIRS), torch.split(j, _PAIRS), strict=True):
        left = a.embeddings.index_select(0, own).to(torch.float64)
        right = b.embeddings.index_select(0, other).to(torch.float64)
        cosines = (left * right).sum(dim=1) / (a.norms[own] * b.norms[other])
        found.append((cosines * GRID).round().to(torch.int64))
    return torch.cat(found)


def products(rows: Tensor, columns: Directions, chosen: slice | Tensor, block: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the float32 products of `rows` [N, D] with some columns, `block` rows at a time: first row, [n, m].

    The memory of a product is used again for the next one. To be used in `full_precision`.
    """
    others = columns.unit(chosen)
    memory = torch.empty(min(block, len(rows)), len(others), device=rows.device)
    for start in range(0, len(rows), block):
        own = rows[start : start + block]
        yield start, torch.mm(own, others.T, out=memory[: len(own)])


@contextmanager
def full_precision() -> Iterator[None]:
    """Keep float32 products float32 in here: TF32 or bfloat16 would be off by more than the slack."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def above(scores: Tensor, edge: float) -> Tensor:
    """Return which scores lie strictly above `edge` (bool); NaN lies nowhere."""
    if scores.device.type == "cpu":  # numpy compares four times as fast as torch on a processor
        return torch.from_numpy(np.greater(scores.numpy(), np.float32(edge)))
    return scores > edge


def count(mask: Tensor) -> int:
    """Return how many entries are True."""
    return int(np.count_nonzero(mask.numpy()) if mask.device.type == "cpu" else mask.count_nonzero())


def where(mask: Tensor) -> Tensor:
    """Return the positions of the True entries of `mask` in reading order: int64 [n]."""
    if mask.device.type == "cpu":
        flat = mask.numpy().reshape(-1)
        if flat.size % 8:
            return torch.from_numpy(np.flatnonzero(flat))
        eights = np.flatnonzero(flat.view(np.uint64))  # most are empty: eight entries at a look
        inner = np.flatnonzero(flat.reshape(-1, 8)[eights])
        return torch.from_numpy(eights[inner >> 3] * 8 + (inner & 7))
    return mask.flatten().nonzero().squeeze(1)
