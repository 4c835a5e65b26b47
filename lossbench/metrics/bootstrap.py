"""How much a figure depends on the people it was measured on: bootstrap over identities.

People are resampled, not images and not pairs: images of one person are not independent (the subset
bootstrap; Bolle, Ratha & Pankanti 2004, "Error analysis of pattern recognition systems"). A person drawn w times counts
as w people with the same faces.
"""

import hashlib
import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from lossbench.metrics.exact.directions import at_once
from lossbench.metrics.exact.pairs import highest_pairs, scored_pairs
from lossbench.metrics.operating_point import DEFAULT_FPRS, allowed_each
from lossbench.utils.threads import Scratch, in_threads, threads_for

_BUDGET = 200_000_000  # weights of negatives that all replicates together may compute: seconds, not minutes
_PAIRS = 400_000  # negatives that are kept for it: beyond, an equal share of them at random, the same for all entrants
_SPARSE = 1_000  # where fewer of the chosen lie above a threshold, the highest of all negatives are taken instead
_BLOCK = 256  # weights of one sum that is kept
_AT_ONCE = 1024  # pairs weighted together: they stay in the cache
_RUN = 16  # times as many that one thread sums
_TAIL = 2.5  # times the largest rate: negatives beyond it become a threshold in no plausible resample
_LARGEST = DEFAULT_FPRS[0]  # the tail is as long for all lower rates, and higher ones are taken one by one: no spread
# depends on which others are asked for


def multiplicities(people: Sequence[str], replicates: int) -> Tensor:
    """Return how often each person is drawn in each replicate: [replicates, P] int64, Poisson of mean 1.

    A person's draws are decided by the name alone: entrants, and repeats with people in common, share them, so that
    differences and covariances can be taken replicate by replicate. Independent Poisson draws stand for the
    multinomial of the plain bootstrap (Hanley & MacGibbon 2006, "Creating non-parametric bootstrap samples using
    Poisson frequencies").

    Example:
        >>> multiplicities(["ann", "bob", "eve"], replicates=4)
        tensor([[0, 4, 1],
                [1, 0, 0],
                [0, 2, 0],
                [1, 2, 0]])
    """

    def draws(name: str) -> npt.NDArray[np.int64]:
        seed = int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()[:8])
        return np.random.default_rng(seed).poisson(1.0, size=replicates)

    return torch.from_numpy(np.stack([draws(name) for name in people], axis=1))


def bootstrap_share(hits: Tensor, people: Tensor, weights: Tensor) -> Tensor:
    """Share of `hits` [N] (bool) in each resample of people [B], such as accuracy.

    Args:
        hits: which images count.
        people: [N] int64, whose image it is, in 0..P-1.
        weights: [B, P] from `multiplicities`.

    Example:
        >>> hits, people = torch.tensor([True, False, True]), torch.tensor([0, 0, 1])
        >>> bootstrap_share(hits, people, torch.tensor([[1, 1], [2, 0], [0, 1]]))
        tensor([0.6667, 0.5000, 1.0000], dtype=torch.float64)
    """
    ones = torch.ones(len(hits), dtype=torch.float64)
    right = torch.zeros(weights.shape[1], dtype=torch.float64).index_add_(0, people, hits.to(torch.float64))
    count = torch.zeros(weights.shape[1], dtype=torch.float64).index_add_(0, people, ones)
    drawn = weights.to(torch.float64)
    return (drawn @ right) / (drawn @ count)


def replicates_for(query: int, distractors: int, fprs: Sequence[float] = DEFAULT_FPRS) -> int:
    """Return how many replicates are affordable: 1000, and fewer, at least 200, for many negatives.

    Example:
        >>> replicates_for(80, 80), replicates_for(3000, 3000)
        (1000, 500)
    """
    tail = min(_PAIRS, _TAIL * max(fprs) * (query**2 / 2 + query * distractors))
    return int(min(1000, max(200, _BUDGET / max(tail, 1))))


def bootstrap_identification(
    query: Tensor,
    query_labels: Tensor,
    distractors: Tensor,
    distractor_labels: Tensor,
    query_weights: Tensor,
    distractor_weights: Tensor,
    fprs: Sequence[float] = DEFAULT_FPRS,
) -> Tensor:
    """Identification rate in each resample of query and distractor people: [B, F] float64, NaN if unsupported.

    The weighted (k+1)-th largest negative of each resample, by a cumulative sum over the sorted upper tail of the
    negatives: exact while that tail has no more than 400,000 pairs, else of so many of them drawn at random. A rate for
    which that would leave few above the threshold takes the highest of all negatives. Two draws of one query person
    are two people of one face; pairs between them count neither way.

    Args:
        query: [Q, D], any norm.
        query_labels: [Q] int64 in 0..P-1.
        distractors: [M, D].
        distractor_labels: [M] int64 in 0..E-1.
        query_weights: [B, P] from `multiplicities`, on any device.
        distractor_weights: [B, E], likewise, drawn independently.
        fprs: target rates.

    Example:
        >>> query, labels = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.1, 1.0]]), torch.tensor([0, 0, 1, 1])
        >>> distractors, others = torch.tensor([[-1.0, 0.0], [1.0, 1.0]]), torch.tensor([0, 1])
        >>> drawn = torch.tensor([[1, 1], [2, 1], [0, 0]]), torch.tensor([[1, 1], [1, 2], [1, 1]])
        >>> bootstrap_identification(query, labels, distractors, others, *drawn, [0.2])
        tensor([[1.],
                [1.],
                [nan]], dtype=torch.float64)
    """
    if len(fprs) > 1 and max(fprs) > _LARGEST:
        columns = torch.empty(len(query_weights), len(fprs), dtype=torch.float64)
        data = query, query_labels, distractors, distractor_labels, query_weights, distractor_weights
        usual = [i for i, fpr in enumerate(fprs) if fpr <= _LARGEST]
        for own in filter(None, [usual, *([i] for i in range(len(fprs)) if i not in usual)]):
            columns[:, own] = bootstrap_identification(*data, [fprs[i] for i in own])
        return columns
    owners = torch.cat([query_labels, distractor_labels + query_weights.shape[1]])
    share = min(1.0, _TAIL * max(_LARGEST, *fprs))
    most = int(_PAIRS / share)
    positives, positive_people, negatives, people_of, kept = scored_pairs(query, distractors, owners, most)
    weights = torch.cat([query_weights, distractor_weights], dim=1).to(query.device)
    people = query_weights.shape[1]
    images = torch.bincount(owners, minlength=weights.shape[1])

    found = torch.full((len(weights), len(fprs)), math.nan, dtype=torch.float64, device=query.device)
    total, accepted = _pairs_drawn(weights * images, people), _Drawn(weights, positive_people.unsqueeze(0))

    def fill(columns: list[int], tail: Tensor, pairs: Tensor, kept: float) -> None:
        above = _Drawn(weights, pairs)
        for i in columns:
            rank = allowed_each(fprs[i], total)
            at = above.reach((rank.to(torch.float64) * kept).to(torch.int64) + 1)
            supported = (rank >= 1) & (at < len(tail)) & (accepted.total > 0)
            count = torch.zeros_like(rank)
            # strictly above the threshold: positives are in descending order
            count[supported] = torch.searchsorted(-positives, -tail[at[supported]])
            found[supported, i] = (accepted.first(count).to(torch.float64) / accepted.total)[supported]

    sparse = [i for i, fpr in enumerate(fprs) if kept < 1 and _is_sparse(fpr, len(negatives), kept)]
    if dense := [i for i in range(len(fprs)) if i not in sparse]:
        length = math.ceil(share * len(negatives))
        fill(dense, negatives[:length], people_of[:, :length], kept)
    if sparse:
        length = math.ceil(min(_TAIL * _SPARSE, _PAIRS * kept))  # what the largest of such rates needs
        fill(sparse, *highest_pairs(query, distractors, owners, int(negatives[length])), 1.0)
    return found.cpu()


def _is_sparse(fpr: float, chosen: int, kept: float) -> bool:
    """Return whether few of the chosen negatives lie above the threshold, and the highest of all can be kept."""
    return fpr * chosen < _SPARSE and _TAIL * fpr * chosen <= _PAIRS * kept


def _pairs_drawn(images: Tensor, people: int) -> Tensor:
    """Return how many negatives each resample has [B], of `images` [B, P + E] drawn of each person, P of them query."""
    own, other = images[:, :people], images[:, people:]
    return (own.sum(1) ** 2 - (own**2).sum(1)) // 2 + own.sum(1) * other.sum(1)


class _Drawn:
    """How often pairs occur in each resample, summed from the first pair on, in whole numbers.

    A pair occurs as often as the product of how often its people were drawn. Only the sums of whole blocks of pairs
    are kept, and those inside a block computed where they are asked for: all of them would be B x T numbers.

    Args:
        weights: [B, people].
        pairs: [k, T] int64, the people of each.
    """

    def __init__(self, weights: Tensor, pairs: Tensor):
        nobody = weights.shape[1]  # drawn 0 times: fills up the last block
        blocks = max(1, math.ceil(pairs.shape[1] / _BLOCK))
        self.pairs = F.pad(pairs, (0, blocks * _BLOCK - pairs.shape[1]), value=nobody)
        largest = int(weights.max()) ** len(pairs) * _BLOCK
        exact = torch.float32 if largest <= 1 << 24 else torch.float64  # whole numbers, added without rounding
        self.table = F.pad(weights.T.to(exact), (0, 0, 0, 1)).contiguous()
        size = at_once(_AT_ONCE, weights.device)
        runs = torch.split(self.pairs, _RUN * size, dim=1)
        work, threads = partial(self._sums, size, Scratch()), threads_for(weights.device) if len(runs) > 1 else 1
        sums = torch.cat(list(in_threads(work, runs, threads))).to(torch.int64).cumsum(0)
        self.sums = F.pad(sums, (0, 0, 1, 0)).T.contiguous()  # [B, blocks + 1]
        self.total = self.sums[:, -1]

    def _sums(self, size: int, scratch: Scratch, pairs: Tensor) -> Tensor:
        """Return the sums of some blocks of pairs, `size` pairs at a time: [blocks, B]."""
        sums = self.table.new_empty(pairs.shape[1] // _BLOCK, self.table.shape[1])
        for own, found in zip(torch.split(pairs, size, 1), torch.split(sums, size // _BLOCK), strict=True):
            memory = scratch("drawn", 2, own.shape[1], sums.shape[1], dtype=sums.dtype, device=sums.device)
            drawn = torch.index_select(self.table, 0, own[0], out=memory[0])
            for people in own[1:]:
                drawn.mul_(torch.index_select(self.table, 0, people, out=memory[1]))
            torch.sum(drawn.view(len(found), _BLOCK, -1), dim=1, out=found)
        return sums

    def reach(self, sums: Tensor) -> Tensor:
        """Return the index of the first pair at which each resample reaches its sum [B]; T or more where none does."""
        block = (torch.searchsorted(self.sums, sums.unsqueeze(1)) - 1).clamp(max=self.sums.shape[1] - 2)
        before = self.sums.gather(1, block) + self._inside(block).cumsum(1)
        return (block * _BLOCK + torch.searchsorted(before, sums.unsqueeze(1))).squeeze(1)

    def first(self, count: Tensor) -> Tensor:
        """Return the sum of the first `count` [B] pairs in each resample."""
        block = (count // _BLOCK).clamp(max=self.sums.shape[1] - 2).unsqueeze(1)
        taken = torch.arange(_BLOCK, device=count.device) < count.unsqueeze(1) - block * _BLOCK
        return (self.sums.gather(1, block) + (self._inside(block) * taken).sum(1, keepdim=True)).squeeze(1)

    def _inside(self, block: Tensor) -> Tensor:
        """Return how often the pairs of one block [B, 1] each occur: [B, _BLOCK] int64."""
        pairs = self.pairs[:, block * _BLOCK + torch.arange(_BLOCK, device=block.device)]  # [k, B, _BLOCK]
        resample = torch.arange(len(block), device=block.device).unsqueeze(1)
        return self.table[pairs, resample].prod(0).to(torch.int64)
