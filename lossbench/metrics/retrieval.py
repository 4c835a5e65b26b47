"""Retrieval: of the images that look most alike, how many show the same person?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.metrics.exact.directions import BLOCK, grid_cosines, people_of, unit_rows


@dataclass(frozen=True)
class Retrieval:
    """Means over queries, each 0 to 1; NaN where there is no query.

    `queries` counts the images that have a match to find; `alone` those of people with no other image: they stay in
    the gallery as possible wrong matches, and are no queries.
    """

    precision_at_1: float
    r_precision: float
    map_at_r: float
    queries: int
    alone: int


def retrieval(embeddings: Tensor, labels: Tensor, *, block: int = BLOCK) -> Retrieval:
    """Rank all other images by cosine for every image: precision@1, R-precision and MAP@R.

    R is the number of other images of the query's person, and P(i) the share of them among the i nearest images.
    Precision@1 is P(1), R-precision is P(R), and MAP@R the mean over i = 1..R of P(i) where the i-th nearest image
    shows the person and 0 where it does not (Musgrave, Belongie & Lim 2020, "A Metric Learning Reality Check",
    arXiv:2003.08505, section 3.2).

    Cosines are float64 rounded to multiples of 2^-30. Of images that tie, those of other people come first: an
    embedding gets no credit for people it does not separate, as in `identification_rate`. One that maps all images to
    one point scores 0, whatever their order. The result does not depend on that order, nor on norms, a rotation of all
    embeddings, or `block`.

    Memory grows with N·D and block·(block + max R), never with N·N.

    Args:
        embeddings: [N, D], any norm, not zero.
        labels: [N] integers.
        block: rows and columns of one product; changes memory only.

    Raises:
        ValueError: shapes that do not fit, or an embedding that is zero or not finite.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0], [0.1, 1.0], [-1.0, 0.0]])
        >>> retrieval(embeddings, torch.tensor([0, 0, 1, 1, 2]))
        Retrieval(precision_at_1=0.75, r_precision=0.75, map_at_r=0.75, queries=4, alone=1)
    """
    unit = unit_rows(embeddings)
    people, images = people_of(embeddings, labels)
    others = images[people] - 1  # [N] R of each image
    queries = others.nonzero().squeeze(1)
    if len(queries) == 0:
        return Retrieval(math.nan, math.nan, math.nan, 0, len(unit))
    points = []
    for start in range(0, len(queries), block):
        rows = queries[start : start + block]
        hits = _ranked_hits(unit, people, rows, int(others.max()), block).to(torch.float64)
        ranks = torch.arange(1, hits.shape[1] + 1, dtype=torch.float64, device=hits.device)
        found = hits.cumsum(dim=1)
        gained = (found / ranks * hits).cumsum(dim=1)  # of P(i)
        r = others[rows].unsqueeze(1)
        points.append(torch.cat([hits[:, :1], found.gather(1, r - 1) / r, gained.gather(1, r - 1) / r], dim=1))
    columns = torch.cat(points).T.tolist()
    means = [math.fsum(column) / len(queries) for column in columns]  # exact sums: the order of images does not matter
    return Retrieval(means[0], means[1], means[2], len(queries), len(unit) - len(queries))


def _ranked_hits(unit: Tensor, people: Tensor, rows: Tensor, depth: int, block: int) -> Tensor:
    """Return, for each query, which of its `depth` nearest others show its person, nearest first: [rows, depth] bool.

    An image is one whole number, twice its score plus 1 if it shows another person: in descending order, ties have
    other people first.
    """
    best = torch.empty(len(rows), 0, dtype=torch.int64, device=unit.device)
    for start in range(0, len(unit), block):
        columns = slice(start, min(start + block, len(unit)))
        other = people[rows].unsqueeze(1) != people[columns]
        keys = grid_cosines(unit[rows], unit[columns]).to(torch.int64).mul_(2).add_(other)
        itself = (rows >= start) & (rows < columns.stop)
        keys[itself, rows[itself] - start] = torch.iinfo(torch.int64).min  # the last of all, which depth < N leaves out
        keys = torch.cat([best, keys], dim=1)
        best = keys.topk(min(depth, keys.shape[1]), dim=1).values
    return best % 2 == 0
