"""Templates: several images or videos of one person compared as one, as IJB-B and IJB-C do (Whitelam et al. 2017).

The 1:1 protocol of InsightFace's eval_ijbc.py: image features are averaged per medium (the frames of one video are one
medium), the features of a template's media are added, and the cosine of two templates is their score. The same here:
media first, then their sum, normalised. What differs: image features are brought to length 1 first unless `keep_norms`
says otherwise (InsightFace keeps the norms by default, its N1); they are weighted by a detector's score only where
`weights` are given (its D1); thresholds are order statistics of the negatives, never above the false-accept rate, where
InsightFace takes the point of the ROC nearest to it, which may lie above.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossbench.metrics.exact.directions import GRID, Directions, exact_scores, norms
from lossbench.metrics.operating_point import allowed, allowed_each

_ROWS = 4096  # images pooled at a time
_BLOCK = 1 << 20  # pairs scored at a time
_TAIL, _LEAST, _MOST = 10, 1000, 400_000  # negatives kept per rate: times the rate, at least, at most
_BUDGET = 100_000_000  # weights of negatives that all resamples of one rate may compute

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TemplateRates:
    """Operating points of a 1:1 list, one per false-accept rate; tensors are float64 [F] on the CPU.

    `far` is the target, `tar` the share of same-person pairs scored strictly above `threshold`, `achieved_far` that of
    different-person pairs. All but `far` are NaN where the negatives do not support the point, FAR·N < 1. `positives`
    and `negatives` are numbers of pairs.
    """

    far: Tensor
    tar: Tensor
    threshold: Tensor
    achieved_far: Tensor
    positives: int
    negatives: int


def pool_templates(
    embeddings: Tensor,
    rows: Tensor,
    templates: Tensor,
    media: Tensor,
    *,
    weights: Tensor | None = None,
    keep_norms: bool = False,
) -> Tensor:
    """Return the features of templates [T, D]: the sum of their media's, each the mean of its images'; float64, CPU.

    They are not normalised: their cosines are compared.

    Args:
        embeddings: [N, D] of images, any norm, not zero.
        rows: [M] int64, the image of each entry: an image may be in several templates.
        templates: [M] int64, its template, 0..T-1, each at least once.
        media: [M] int64 >= 0, its medium; counted within the template.
        weights: [M] by which image features are multiplied, such as a detector's scores.
        keep_norms: leave image features as long as they are.

    Raises:
        ValueError: shapes that differ, a template without an entry, or an embedding that is zero or not finite.

    Example:
        >>> images = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 4.0]])
        >>> rows, templates, media = torch.tensor([0, 1, 2]), torch.tensor([0, 0, 0]), torch.tensor([7, 7, 8])
        >>> pool_templates(images, rows, templates, media)
        tensor([[0.5000, 1.5000]], dtype=torch.float64)
        >>> pool_templates(images, rows, templates, media, keep_norms=True)
        tensor([[1., 5.]], dtype=torch.float64)
    """
    if not rows.ndim == 1 or not rows.shape == templates.shape == media.shape:
        raise ValueError(f"rows {tuple(rows.shape)}, templates {tuple(templates.shape)} and media must all be [M]")
    embeddings = embeddings.cpu()
    lengths = norms(embeddings)
    count = int(templates.max()) + 1 if len(templates) else 0
    if int((torch.bincount(templates, minlength=count) == 0).sum()):
        raise ValueError("a template has no image")
    _, medium, images = torch.unique(torch.stack([templates, media]), dim=1, return_inverse=True, return_counts=True)
    share = images[medium].to(torch.float64).reciprocal()
    if weights is not None:
        share = share * weights.to(torch.float64)
    if not keep_norms:
        share = share / lengths[rows]
    pooled = torch.zeros(count, embeddings.shape[1], dtype=torch.float64)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        pooled.index_add_(0, templates[part], embeddings[rows[part]].to(torch.float64) * share[part].unsqueeze(1))
    return pooled


def template_scores(templates: Tensor, a: Tensor, b: Tensor, *, block: int = _BLOCK) -> Tensor:
    """Return the scores of pairs of templates [P]: cosines as multiples of 2^-30, int32 (four bytes a pair).

    Args:
        templates: [T, D], any norm, not zero.
        a: [P] integers, the first of each pair.
        b: [P] integers, the second.
        block: pairs at a time; changes memory only.

    Raises:
        ValueError: an embedding that is zero or not finite.

    Example:
        >>> templates = torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]])
        >>> template_scores(templates, torch.tensor([0, 0]), torch.tensor([1, 2])) / GRID
        tensor([0.0000, 0.6000])
    """
    directions = Directions(templates)
    found = torch.empty(len(a), dtype=torch.int32)
    for start in range(0, len(a), block):
        part = slice(start, start + block)
        found[part] = exact_scores(directions, a[part].to(torch.int64), directions, b[part].to(torch.int64))
    return found


def template_rates(scores: Tensor, same: Tensor, fars: Sequence[float]) -> TemplateRates:
    """Return the share of same-person pairs accepted at each false-accept rate of a 1:1 list, exactly.

    The rule is that of `identification_rate`: with N negatives and k = floor(FAR·N + 1e-9), the threshold is the
    (k+1)-th largest negative, and a pair is accepted strictly above it.

    Args:
        scores: [P] from `template_scores`.
        same: [P] bool, True where both templates show one person.
        fars: target rates, each in (0, 1).

    Raises:
        ValueError: shapes that differ, one kind of pair only, or a rate outside (0, 1).

    Example:
        >>> scores = (torch.tensor([0.9, 0.5, 0.7, 0.6, 0.2, 0.1]) * GRID).to(torch.int32)
        >>> found = template_rates(scores, torch.tensor([True, True, False, False, False, False]), [0.25, 0.01])
        >>> found.tar, found.negatives  # four negatives do not support 0.01
        (tensor([0.5000,    nan], dtype=torch.float64), 4)
    """
    if wrong := [rate for rate in fars if not 0 < rate < 1]:
        raise ValueError(f"false-accept rate {wrong[0]} is not between 0 and 1")
    positives, negatives = _kinds(scores, same)
    ranks = [allowed(rate, len(negatives)) for rate in fars]
    places = sorted({len(negatives) - 1 - rank for rank in ranks if rank >= 1})
    ordered = np.partition(negatives, places) if places else negatives
    points = torch.full((len(ranks), 3), math.nan, dtype=torch.float64)
    for point, rank in zip(points, ranks, strict=True):
        if rank >= 1:
            cut = int(ordered[len(negatives) - 1 - rank])
            values = (positives > cut).mean(), cut / GRID, (negatives > cut).mean()
            point[:] = torch.tensor(values, dtype=torch.float64)
    far = torch.tensor(list(fars), dtype=torch.float64)
    return TemplateRates(far, points[:, 0], points[:, 1], points[:, 2], len(positives), len(negatives))


def template_replicates(pairs: int) -> int:
    """Return how many resamples of the people are affordable: 1000, and fewer, at least 200, for many pairs.

    Example:
        >>> template_replicates(10_000), template_replicates(15_000_000)
        (1000, 250)
    """
    return min(1000, max(200, _BUDGET // max(1, min(pairs, _MOST))))


def resampled_template_rates(
    scores: Tensor, same: Tensor, first: Tensor, second: Tensor, drawn: Tensor, fars: Sequence[float]
) -> Tensor:
    """Return the TAR at each false-accept rate in each resample of the people: [B, F] float64, NaN if unsupported.

    A person drawn w times counts as w people with the same templates, see `metrics.bootstrap`. Exact where the highest
    negatives that a rate needs are no more than 400,000; of more, every n-th of them in order of their score is taken.

    Args:
        scores: [P] from `template_scores`.
        same: [P] bool.
        first: [P] integers, who is on the first template of each pair, 0..people - 1.
        second: [P] integers, who is on the second.
        drawn: [B, people] from `multiplicities`.
        fars: target rates.

    Example:
        >>> scores = (torch.tensor([0.9, 0.5, 0.7, 0.6, 0.2, 0.1]) * GRID).to(torch.int32)
        >>> same = torch.tensor([True, True, False, False, False, False])
        >>> first, second = torch.tensor([0, 1, 0, 0, 1, 1]), torch.tensor([0, 1, 1, 2, 2, 2])
        >>> drawn = torch.tensor([[1, 1, 1], [2, 1, 1], [0, 1, 1]])
        >>> resampled_template_rates(scores, same, first, second, drawn, [0.5])
        tensor([[1.0000],
                [0.6667],
                [1.0000]], dtype=torch.float64)
    """
    from scipy.sparse import coo_array

    kind, people = same.numpy(), drawn.shape[1]
    owners = np.stack([first.numpy(), second.numpy()])
    weights = drawn.numpy().astype(np.float64)
    own, other = owners[0, kind], owners[:, ~kind]
    positives, negatives = scores.numpy()[kind], scores.numpy()[~kind]
    counts = coo_array((np.ones(other.shape[1]), (other[0], other[1])), shape=(people, people)).tocsr()
    total = torch.from_numpy(((counts @ weights.T) * weights.T).sum(0)).to(torch.int64)  # negatives of each resample
    order = np.argsort(-positives, kind="stable")
    positives, own = positives[order], own[order]
    accepted_of = [np.cumsum(one[own]) for one in weights]
    found = np.full((len(weights), len(fars)), math.nan)
    for column, far in enumerate(fars):
        tail, step = _tail(negatives, far)
        ranks = allowed_each(far, total).numpy()
        for resample, (one, rank, accepted) in enumerate(zip(weights, ranks, accepted_of, strict=True)):
            above = np.cumsum(one[other[0, tail]] * one[other[1, tail]])
            at = int(np.searchsorted(above, (rank + 1) / step))  # the (k+1)-th largest
            if rank < 1 or at >= len(tail) or not accepted[-1]:
                continue
            count = int(np.searchsorted(-positives, -negatives[tail[at]]))  # strictly above
            found[resample, column] = (accepted[count - 1] if count else 0) / accepted[-1]
    return torch.from_numpy(found)


def _tail(negatives: npt.NDArray[Any], far: float) -> tuple[npt.NDArray[np.int64], int]:
    """Return where the highest negatives are, in descending order, and of how many each stands for."""
    length = min(len(negatives), max(_LEAST, math.ceil(_TAIL * far * len(negatives))))
    top = np.argpartition(-negatives, length - 1)[:length] if length < len(negatives) else np.arange(length)
    step = math.ceil(length / _MOST)
    ordered = top[np.argsort(-negatives[top], kind="stable")]
    return ordered[step // 2 :: step], step


def _kinds(scores: Tensor, same: Tensor) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the scores of pairs of one person and of two."""
    if scores.ndim != 1 or scores.shape != same.shape:
        raise ValueError(f"scores {tuple(scores.shape)} and same {tuple(same.shape)} must both be [P]")
    values, kind = scores.numpy(), same.numpy()
    if not kind.any() or kind.all():
        raise ValueError("there must be pairs of one person and pairs of two")
    return values[kind], values[~kind]
