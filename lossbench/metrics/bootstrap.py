"""How much a figure depends on the people it was measured on: bootstrap over identities.

People are resampled, not images and not pairs: images of one person are not independent (the subset
bootstrap; Bolle, Ratha & Pankanti 2004, "Error analysis of pattern recognition systems"). A person drawn w times counts
as w people with the same faces.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossbench.metrics.exact.pairs import highest_pairs, scored_pairs
from lossbench.metrics.operating_point import DEFAULT_FPRS, allowed_each

_BUDGET = 200_000_000  # weights of negatives that all replicates together may compute: seconds, not minutes
_PAIRS = 400_000  # negatives that are kept for it: beyond, an equal share of them at random, the same for all entrants
_SPARSE = 1_000  # where fewer of the chosen lie above a threshold, the highest of all negatives are taken instead
_CHUNK = 4_000_000  # of them at a time
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
        query_weights: [B, P] from `multiplicities`.
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
    weights = torch.cat([query_weights, distractor_weights], dim=1)
    people = query_weights.shape[1]
    images = torch.bincount(owners, minlength=weights.shape[1])

    found = torch.full((len(weights), len(fprs)), math.nan, dtype=torch.float64)

    def fill(columns: list[int], tail: Tensor, pairs: Tensor, kept: float) -> None:
        wanted, rows = [fprs[i] for i in columns], max(1, _CHUNK // max(1, len(tail)))
        chunks = [
            _weighted_rates(drawn, images, people, positives, positive_people, tail, pairs, kept, wanted)
            for drawn in torch.split(weights, rows)
        ]
        found[:, columns] = torch.cat(chunks)

    sparse = [i for i, fpr in enumerate(fprs) if kept < 1 and _is_sparse(fpr, len(negatives), kept)]
    if dense := [i for i in range(len(fprs)) if i not in sparse]:
        length = math.ceil(share * len(negatives))
        fill(dense, negatives[:length], people_of[:, :length], kept)
    if sparse:
        length = math.ceil(min(_TAIL * _SPARSE, _PAIRS * kept))  # what the largest of such rates needs
        fill(sparse, *highest_pairs(query, distractors, owners, int(negatives[length])), 1.0)
    return found


def _is_sparse(fpr: float, chosen: int, kept: float) -> bool:
    """Return whether few of the chosen negatives lie above the threshold, and the highest of all can be kept."""
    return fpr * chosen < _SPARSE and _TAIL * fpr * chosen <= _PAIRS * kept


def _weighted_rates(
    drawn: Tensor,
    images: Tensor,
    people: int,
    positives: Tensor,
    positive_people: Tensor,
    tail: Tensor,
    pairs: Tensor,
    kept: float,
    fprs: Sequence[float],
) -> Tensor:
    """Return the rates [B, F] of some replicates `drawn` [B, P + E]; `images` [P + E] counts each person's images."""
    own, other = (drawn * images)[:, :people], (drawn * images)[:, people:]
    total = (own.sum(1) ** 2 - (own**2).sum(1)) // 2 + own.sum(1) * other.sum(1)
    above = (drawn[:, pairs[0]] * drawn[:, pairs[1]]).cumsum(1)
    accepted = torch.nn.functional.pad(drawn[:, positive_people].cumsum(1), (1, 0))
    rates = torch.full((len(drawn), len(fprs)), math.nan, dtype=torch.float64)
    for i, fpr in enumerate(fprs):
        rank = allowed_each(fpr, total).to(torch.float64).unsqueeze(1)
        at = torch.searchsorted(above, (rank * kept).to(torch.int64) + 1).squeeze(1)
        supported = (rank.squeeze(1) >= 1) & (at < len(tail)) & (accepted[:, -1] > 0)
        threshold = tail[at[supported]]
        count = torch.searchsorted(-positives, -threshold)  # strictly above it: positives are in descending order
        rates[supported, i] = accepted[supported, count].to(torch.float64) / accepted[supported, -1]
    return rates
