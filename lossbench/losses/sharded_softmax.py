"""Class weights shared out over processes: each holds, trains and scores its own classes.

All processes work on the embeddings of the whole batch. Each takes their product with the weights of its own classes;
own-class cosines and log-sum-exps are joined by a maximum and a sum of [B] numbers, the gradients of the embeddings by
a sum of [B, D]. Scores [B, C] of all classes exist nowhere, and a process's optimiser holds its own classes alone.

With a share of the centers to sample, each process scores the classes of the batch and as many others, drawn anew in
every step, as make up that share of its own. An et al. 2022, arXiv:2203.15565 (Partial FC).
"""

import math

import torch
from torch import Tensor, nn

from lossbench.losses.blocked_softmax import Elementwise, own_and_rest
from lossbench.utils.distributed import ALONE, Ranks


class ClassShard(nn.Module):
    """The rows of this process's classes, in the place of the weights [C, D] or [C, K, D] of all.

    It says what the whole is like; whatever a head does with it beyond `margin_softmax` and `own_cosine` fails.
    """

    def __init__(
        self, weight: Tensor, ranks: Ranks = ALONE, sample: float | None = None, *, whole: torch.Size | None = None
    ):
        """Take this process's rows of `weight`, which holds these alone where the shape of the `whole` is given.

        `sample` is the share of them to score in a step, all if None.
        """
        super().__init__()
        self.shape = weight.shape if whole is None else whole
        mine = ranks.share(len(self))
        self.ranks, self.sample, self.start = ranks, sample, mine.start
        # a slice would keep the whole
        self.rows = nn.Parameter(weight.detach()[mine].clone() if whole is None else weight.detach())
        self.drawn: tuple[Tensor, Tensor] | None = None  # this step's: which rows [n], and a copy of them to train
        self._generator: torch.Generator | None = None

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        """Two, or three where a class has several centers."""
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.rows.dtype

    @property
    def device(self) -> torch.device:
        """Of the weights."""
        return self.rows.device

    def seed(self, seed: int) -> None:
        """Let the draws that follow come from `seed`."""
        self._generator = torch.Generator(self.device).manual_seed(seed)

    def own_and_rest(
        self, unit: Tensor, labels: Tensor, scale: Tensor, others: Elementwise | None
    ) -> tuple[Tensor, Tensor]:
        """Return what `blocked_softmax.own_and_rest` returns, of all classes or of those that were drawn."""
        column = labels - self.start
        if self.sample is None:
            return own_and_rest(unit, self.rows, column, scale, others, self.ranks)
        if self.drawn is None:
            self.drawn = self._draw(column, self.sample)
        index, rows = self.drawn
        here = (column >= 0) & (column < len(self.rows))
        place = torch.searchsorted(index, column.clamp(0, len(self.rows) - 1))
        return own_and_rest(unit, rows, torch.where(here, place, -1), scale, others, self.ranks)

    def _draw(self, column: Tensor, sample: float) -> tuple[Tensor, Tensor]:
        """Draw rows, always as many: the share asked for, or as many as a batch can need."""
        mine = len(self.rows)
        count = min(mine, max(math.ceil(sample * mine), len(column)))
        chance = torch.rand(mine + 1, device=self.device, generator=self._generator)
        here = (column >= 0) & (column < mine)
        chance.index_fill_(0, torch.where(here, column, mine), 2.0)  # the batch's classes come first of all
        index = chance[:mine].topk(count).indices.sort().values
        return index, self.rows.detach()[index].requires_grad_()

    def own_rows(self, labels: Tensor) -> Tensor:
        """Return the rows of these classes [B, D] or [B, K, D], as constants, from all processes."""
        column = labels - self.start
        place = column.clamp(0, len(self.rows) - 1)
        rows = self.rows.detach().index_select(0, place)
        elsewhere = (place != column).view(-1, *(1,) * (self.ndim - 1))
        return self.ranks.sum_(rows.masked_fill(elsewhere, 0))

    def whole(self) -> Tensor | None:
        """Return the weights of all classes in the first process; None in the others. All must ask."""
        return self.ranks.gathered(self.rows.detach(), len(self))
