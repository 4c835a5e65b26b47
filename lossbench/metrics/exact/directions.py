"""Embeddings compared by direction: unit rows, and scores on a grid so that equal cosines tie.

The score of a pair is its cosine in float64, rounded to a multiple of 2^-30: pairs whose cosines are equal in exact
arithmetic tie, in whatever order sums are made (but for a cosine that lies within 1e-16 of half a step, and cosines
closer than 1e-9 may count as equal).
"""

import torch
from torch import Tensor

from lossbench.utils.threads import Scratch, in_threads, threads_for

GRID = 1 << 30  # scores are whole multiples of 1/GRID
BLOCK = 2048  # rows and columns of one product: 32 MiB of float64 scores
_ROWS = 1024  # of one conversion to float64: they fit a processor's cache
_PAIRS = 512  # whose rows fit it together
_ON_GPU = 16  # times as many at once on a GPU, which has no such cache and pays for every kernel
_RUN = 16  # times as many that one thread computes: torch's own threads wait longer for one another than they work
_UNIT_ROUNDOFF = 2.0**-24  # of float32
_ZERO = 1e-150  # a norm whose square has lost its digits in float64, or all of it


def unit_rows(embeddings: Tensor) -> Tensor:
    """Return the directions of `embeddings` [N, D], any norm: [N, D] float64 of norm 1, on the same device.

    Raises:
        ValueError: not two dimensions, or an embedding that is zero or not finite.

    Example:
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 1.0000]], dtype=torch.float64)
    """
    return embeddings.to(torch.float64) / norms(embeddings).unsqueeze(1)


def norms(embeddings: Tensor) -> Tensor:
    """Return the norms of `embeddings` [N, D]: [N] float64; they may lie in a memory-mapped file.

    Raises:
        ValueError: not two dimensions, or an embedding that is zero (below 1e-150) or not finite.

    Example:
        >>> norms(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        tensor([5., 2.], dtype=torch.float64)
    """
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings {tuple(embeddings.shape)} must be [N, D]")
    embeddings = embeddings.detach()
    found = embeddings.new_empty(len(embeddings), dtype=torch.float64)
    size = at_once(_ROWS, embeddings.device)
    wide = embeddings.new_empty(min(size, len(embeddings)), embeddings.shape[1], dtype=torch.float64)
    # Ten times as fast as vector_norm(dtype=float64), which converts one by one.
    for rows, squares in zip(torch.split(embeddings, size), torch.split(found, size), strict=True):
        torch.sum(wide[: len(rows)].copy_(rows).square_(), 1, out=squares)
    found.sqrt_()
    if not bool(((found > _ZERO) & found.isfinite()).all()):
        raise ValueError("an embedding is zero or not finite; it has no direction to compare")
    return found


def grid_cosines(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the scores of unit `rows` [R, D] and `columns` [C, D] in multiples of 1/GRID: [R, C] int32.

    Example:
        >>> rows = unit_rows(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        >>> grid_cosines(rows, rows) / GRID
        tensor([[1.0000, 0.8000],
                [0.8000, 1.0000]])
    """
    return (rows @ columns.T).mul_(GRID).round_().to(torch.int32)


def on_cpu(device: torch.device) -> bool:
    """Return whether to work in parts that fit a processor's cache, with what numpy does faster than torch.

    Example:
        >>> on_cpu(torch.device("cpu")), on_cpu(torch.device("cuda"))
        (True, False)
    """
    return device.type == "cpu"


def at_once(number: int, device: torch.device) -> int:
    """Return how many rows or pairs to take at a time: the number that fits a processor's cache, more on a GPU.

    Example:
        >>> at_once(512, torch.device("cpu")), at_once(512, torch.device("cuda"))
        (512, 8192)
    """
    return number if on_cpu(device) else number * _ON_GPU


class Directions:
    """Embeddings [N, D] of any norm, compared by direction; they may lie in a memory-mapped file.

    Raises:
        ValueError: not two dimensions, or an embedding that is zero or not finite.
    """

    def __init__(self, embeddings: Tensor):
        self.embeddings = embeddings
        self.norms = norms(embeddings)

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

    @property
    def doubt(self) -> float:
        """More than a float64 product of unit rows and the quotient of `exact_scores` can differ, in steps of the grid.

        Each is D products and D - 1 sums of rounded factors, and a few roundings more.
        """
        return 2 * (self.embeddings.shape[1] + 8) * 2.0**-53 * GRID

    def unit(self, rows: slice | Tensor, scratch: Scratch | None = None) -> Tensor:
        """Return some rows with norm 1, float32 [n, D]; in `scratch`, where it is given, until the next call."""
        scratch, device, dtype = scratch or Scratch(), self.norms.device, self.embeddings.dtype
        if isinstance(rows, slice):
            chosen = self.embeddings[rows]
        else:
            chosen = scratch("chosen", len(rows), self.embeddings.shape[1], dtype=dtype, device=device)
            torch.index_select(self.embeddings, 0, rows, out=chosen)
        unit = scratch("unit", *chosen.shape, dtype=torch.float32, device=device)
        wholes = chosen, self.norms[rows].unsqueeze(1), unit
        size = at_once(_ROWS, device)
        for own, lengths, found in zip(*(torch.split(whole, size) for whole in wholes), strict=True):
            wide = scratch("wide", *own.shape, dtype=torch.float64, device=device)
            found.copy_(torch.div(wide.copy_(own), lengths, out=wide))
        return unit


def exact_scores(a: Directions, i: Tensor, b: Directions, j: Tensor) -> Tensor:
    """Return the scores of the pairs (a[i], b[j]): [P] int64, multiples of 1/GRID.

    Example:
        >>> rows = Directions(torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        >>> exact_scores(rows, torch.tensor([0]), rows, torch.tensor([1])) / GRID
        tensor([0.8000])
    """
    cosines = torch.empty(len(i), dtype=torch.float64, device=i.device)
    size = at_once(_PAIRS, i.device)
    run = _RUN * size

    def fill(begin: int) -> None:
        for start in range(begin, min(begin + run, len(i)), size):
            part = slice(start, start + size)
            left = a.embeddings.index_select(0, i[part]).to(torch.float64)
            right = b.embeddings.index_select(0, j[part]).to(torch.float64)
            torch.sum(left.mul_(right), dim=1, out=cosines[part])

    for _ in in_threads(fill, range(0, len(i), run), threads_for(i.device) if len(i) > run else 1):
        pass
    return cosines.div_(a.norms[i] * b.norms[j]).mul_(GRID).round_().to(torch.int64)


def people_of(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return who is on each image [N] int64, in 0..P-1, and each person's images [P] int64, on the embeddings' device.

    Args:
        embeddings: [N, D], for its length and device.
        labels: [N] integers, with or without gaps.

    Raises:
        ValueError: labels that are not one per image.

    Example:
        >>> people_of(torch.ones(3, 2), torch.tensor([7, 3, 7]))
        (tensor([1, 0, 1]), tensor([1, 2]))
    """
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"labels {tuple(labels.shape)} must be [{len(embeddings)}], one per embedding")
    _, people, images = torch.unique(labels.to(embeddings.device), return_inverse=True, return_counts=True)
    return people, images
