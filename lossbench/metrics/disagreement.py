"""The pairs of images on which two embeddings of the same people decide differently, in bounded memory."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lossbench.metrics.exact.directions import GRID, Directions
from lossbench.metrics.exact.pairs import Pairs
from lossbench.metrics.exact.products import Tile, count, full_precision, where


class Kind(NamedTuple):
    """Pairs that are alike: whether they show one person, and whether the first or the second accepts them."""

    same: bool
    first_accepts: bool


@dataclass(frozen=True)
class Disagreement:
    """Pairs of one kind, the clearest first: both cosines of a clear one are far from their thresholds.

    `total` is how many pairs of all positives or negatives there are, and the tensors [T] hold the clearest of these:
    `rows` are query images, `columns` count the query images and then the distractors, and `first` and `second` are
    the cosines, float64.
    """

    total: int
    rows: Tensor
    columns: Tensor
    first: Tensor
    second: Tensor


def disagreements(
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor],
    labels: Tensor,
    thresholds: tuple[float, float],
    most: int = 25,
    *,
    block: int | None = None,
) -> dict[Kind, Disagreement]:
    """Return the pairs that one of two embeddings accepts and the other rejects, by kind.

    Pairs and scores are those of `identification_rate`, and a pair is accepted strictly above the threshold. A pair is
    as clear as the smaller of the two distances between a cosine and its threshold. Of equally clear pairs the first in
    the order of rows and columns come first. The result is exact and the same for every block size; memory grows with
    the images alone.

    Args:
        first: query [Q, D] and distractors [M, D], any norm, not zero.
        second: those of the other loss [Q, E] and [M, E], of the same images in the same order.
        labels: [Q] integers, who is on each query image.
        thresholds: one cosine each.
        most: so many pairs of each kind are returned.
        block: columns of one product, and four times its rows; changes memory and speed only.

    Raises:
        ValueError: shapes that do not fit, or an embedding that is zero or not finite.

    Example:
        >>> first = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), torch.tensor([[1.0, 1.0]])
        >>> second = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]), torch.tensor([[0.6, 0.8]])
        >>> found = disagreements(first, second, torch.tensor([0, 0, 1]), (0.75, 0.5))
        >>> found[Kind(same=True, first_accepts=True)]  # a cosine of 0.8 against one of 0
        Disagreement(total=1, rows=tensor([0]), columns=tensor([1]), first=tensor([0.8000], dtype=torch.float64), \
second=tensor([0.], dtype=torch.float64))
        >>> found[Kind(same=False, first_accepts=False)].columns  # the distractor: 0.7071 against 0.6
        tensor([3])
    """
    pairs = [Pairs(Directions(query), labels, Directions(others), block) for query, others in (first, second)]
    if len(pairs[0].distractors) != len(pairs[1].distractors):
        shapes = [tuple(others.shape) for _, others in (first, second)]
        raise ValueError(f"distractors {shapes} must be of the same images")
    cuts = round(thresholds[0] * GRID), round(thresholds[1] * GRID)
    searches = {
        Kind(same, accepts): _Search(most, labels.device) for same in (True, False) for accepts in (True, False)
    }
    for i, j in pairs[0].matched():
        places = torch.stack([torch.minimum(i, j), torch.maximum(i, j)])
        scores = torch.stack([own.exact(*places) for own in pairs])
        for accepts in (True, False):
            searches[Kind(True, accepts)].add(places, scores, _margin(scores, cuts, accepts))
    with full_precision():
        for jobs in zip(pairs[0].jobs(0), pairs[1].jobs(0), strict=True):  # the same blocks: they follow from lengths
            for tiles in zip(jobs[0](), jobs[1](), strict=True):
                for accepts in (True, False):
                    _screen(searches[Kind(False, accepts)], pairs, tiles, cuts, accepts)
    return {kind: search.found() for kind, search in searches.items()}


def _margin(scores: Tensor, cuts: tuple[float, float], first_accepts: bool) -> Tensor:
    """Return how clear each pair [P] is, in steps of the grid; below 0 where the losses do not disagree so."""
    above, below = (0, 1) if first_accepts else (1, 0)
    return torch.minimum(scores[above] - cuts[above] - 1, cuts[below] - scores[below])


def _screen(
    search: "_Search", pairs: list[Pairs], tiles: tuple[Tile, ...], cuts: tuple[int, int], first_accepts: bool
) -> None:
    """Add a tile's negatives to a search: float32 decides all but those near an edge, which are computed again."""
    slack = max(own.query.slack for own in pairs) + 2 / GRID  # the step that `_margin` takes off, and rounding
    edges = cuts[0] / GRID, cuts[1] / GRID
    above, below = (0, 1) if first_accepts else (1, 0)
    margin = torch.minimum(tiles[above].scores - edges[above], edges[below] - tiles[below].scores)
    margin = margin.masked_fill_(margin.isnan(), -9.0).flatten()
    clear = margin > slack
    search.total += count(clear)
    best = torch.topk(margin, min(search.most, len(margin))).values[-1].item() if len(margin) else 0.0
    floor = max(search.least / GRID, best) - 2 * slack
    at = where((clear & (margin >= floor)) | (margin.abs() <= slack))
    places = tiles[0].places(at)
    scores = torch.stack([own.exact(*places) for own in pairs])
    search.add(torch.stack(places), scores, _margin(scores, cuts, first_accepts), counted=clear[at])


class _Search:
    """The clearest pairs so far [5, T]: row, column, two scores and margin, whole numbers, the clearest first."""

    def __init__(self, most: int, device: torch.device):
        self.most, self.total, self.least = most, 0, 0
        self.kept = torch.empty(5, 0, dtype=torch.int64, device=device)

    def add(self, places: Tensor, scores: Tensor, margin: Tensor, counted: Tensor | None = None) -> None:
        """Take pairs [P] into account; those `counted` are in the total already."""
        right = margin >= 0
        self.total += count(right if counted is None else right & ~counted)
        rows = torch.cat([self.kept, torch.cat([places, scores, margin.unsqueeze(0)])[:, right]], dim=1)
        row, column, _, _, clear = rows.cpu().numpy()
        order = torch.from_numpy(np.lexsort((column, row, -clear))[: self.most])
        self.kept = rows[:, order.to(rows.device)]
        if len(order) == self.most:
            self.least = int(self.kept[4, -1])

    def found(self) -> Disagreement:
        kept = self.kept.cpu()
        first, second = kept[2:4].to(torch.float64) / GRID
        return Disagreement(self.total, kept[0], kept[1], first, second)
