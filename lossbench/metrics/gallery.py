"""Search in a gallery of enrolled people: closed-set identification (CMC) and open-set identification (DIR at FAR)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.metrics.accuracy import class_means, share
from lossbench.metrics.exact.directions import GRID, Directions, exact_scores, on_cpu, people_of
from lossbench.metrics.exact.products import above, full_precision, products, where
from lossbench.metrics.operating_point import allowed
from lossbench.utils.threads import Scratch, in_threads, threads_for

DEFAULT_RANKS = (1, 5, 10)
DEFAULT_FARS = (0.1, 0.01, 0.001)
_TILE = 1024, 1024  # rows and columns of one product
_ON_GPU = 4096, 16384  # there: 256 MiB
_MANY = 1 << 18  # pairs that float32 cannot tell apart, before they are computed in float64


@dataclass(frozen=True)
class Enrolment:
    """`templates` [P, D] float64, one row per person; the other images are `probes` [N] (rows of the embeddings), and
    `people` [N] int64 says whose, in 0..P-1.
    """

    templates: Tensor
    probes: Tensor
    people: Tensor


def enrol(embeddings: Tensor, labels: Tensor, images: int = 1) -> Enrolment:
    """Put the first `images` images of every person into a gallery; the remaining ones are probes.

    A person's template is the mean direction of these images, as templates of several images are made in IJB-A's
    protocol (Klare et al. 2015). A person with no image left has a template and no probes.

    Args:
        embeddings: [N, D], any norm, not zero.
        labels: [N] integers.
        images: of each person, at least 1.

    Raises:
        ValueError: shapes that do not fit, an embedding that is zero or not finite, a person whose images cancel one
            another out, or `images` below 1.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 2.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> enrol(embeddings, labels)
        Enrolment(templates=tensor([[1., 0.],
                [0., 1.]], dtype=torch.float64), probes=tensor([1, 3]), people=tensor([0, 1]))
    """
    if images < 1:
        raise ValueError(f"images {images} must be at least 1")
    Directions(embeddings)
    people, counts = people_of(embeddings, labels)
    order = people.argsort(stable=True)
    place = torch.arange(len(people), device=people.device) - (counts.cumsum(0) - counts)[people[order]]
    enrolled, probes = order[place < images].sort().values, order[place >= images].sort().values
    templates = class_means(embeddings[enrolled], people[enrolled], len(counts))
    if not bool(templates.any(dim=1).all()):
        raise ValueError("the enrolled images of a person cancel one another out: there is no mean direction")
    return Enrolment(templates, probes, people[probes])


@dataclass(frozen=True)
class Cmc:
    """Cumulative match characteristic: `rate` [K] float64, the share of probes whose person is among the first `ranks`.

    NaN without probes, and for ranks beyond the number of entries. `entries` is how many a probe was compared with.
    """

    ranks: tuple[int, ...]
    rate: Tensor
    probes: int
    entries: int


def cmc(
    templates: Tensor,
    probes: Tensor,
    people: Tensor,
    distractors: Tensor,
    ranks: Sequence[int] = DEFAULT_RANKS,
    *,
    block: int | None = None,
) -> Cmc:
    """Closed-set identification: how often a probe's own person is among the first entries of the gallery by cosine.

    A probe's rank is 1 plus the number of other entries that score at least as high as its own person: ties never
    help, so an embedding that separates no people has rate 0. Distractors are entries that no probe belongs to
    (MegaFace; Kemelmacher-Shlizerman et al. 2016). Scores are those of `metrics.products`, ranks exact at any block
    size; memory grows with the images alone, and `distractors` may be a memory-mapped file.

    Args:
        templates: [P, D], one entry a person; see `enrol`.
        probes: [N, D].
        people: [N] int64, whose image, in 0..P-1.
        distractors: [M, D]; M may be 0.
        ranks: each at least 1.
        block: rows and columns of one product, by default as suits the device; changes memory and speed only.

    Raises:
        ValueError: shapes that do not fit, people that are not in the gallery, no rank, or an embedding that is zero or
            not finite.

    Example:
        >>> templates = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> probes, people = torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.1, 1.0]]), torch.tensor([0, 0, 1])
        >>> cmc(templates, probes, people, torch.tensor([[1.0, 2.0]]), ranks=(1, 2, 3)).rate
        tensor([0.3333, 0.6667, 1.0000], dtype=torch.float64)
    """
    if min(ranks, default=0) < 1:
        raise ValueError(f"ranks {list(ranks)} must be at least one, each 1 or more")
    with full_precision():
        others = _others(Directions(templates), Directions(probes), people, Directions(distractors), max(ranks), block)
    entries = len(templates) + len(distractors)
    rates = [share(others < rank) if rank <= entries else math.nan for rank in ranks]
    return Cmc(tuple(ranks), torch.tensor(rates, dtype=torch.float64), len(probes), entries)


@dataclass(frozen=True)
class OpenSet:
    """Detection and identification rate, one per requested false-alarm rate; tensors are float64 [F] on the CPU.

    `rate`, `threshold` and `achieved_far` are NaN where the M unenrolled images do not support the point, FAR·M < 1;
    `rate` also without probes.
    """

    far: Tensor
    rate: Tensor
    threshold: Tensor
    achieved_far: Tensor
    probes: int
    unenrolled: int


def open_set(
    templates: Tensor,
    probes: Tensor,
    people: Tensor,
    unenrolled: Tensor,
    fars: Sequence[float] = DEFAULT_FARS,
    *,
    block: int | None = None,
) -> OpenSet:
    """Open-set identification at rank 1: DIR at FAR (Phillips, Grother & Micheals 2011, Handbook of Face Recognition).

    An image of a person who is not enrolled raises a false alarm when its best entry scores above the threshold. With
    M such images and k = floor(FAR·M + 1e-9), the threshold is the (k+1)-th largest of their best scores. A probe is
    detected and identified when its own person scores strictly above the threshold and above every other entry.
    Scores are those of `metrics.products`; memory grows with the images alone.

    Args:
        templates: [P, D], one entry a person; see `enrol`.
        probes: [N, D].
        people: [N] int64, whose image, in 0..P-1.
        unenrolled: [M, D], images of people who are not in the gallery; M may be 0.
        fars: false-alarm rates, each in (0, 1).
        block: rows and columns of one product, by default as suits the device; changes memory and speed only.

    Raises:
        ValueError: shapes that do not fit, people that are not in the gallery, a rate outside (0, 1), or an embedding
            that is zero or not finite.

    Example:
        >>> templates = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> probes, people = torch.tensor([[0.8, 0.6], [0.6, 0.8], [0.1, 1.0]]), torch.tensor([0, 0, 1])
        >>> found = open_set(templates, probes, people, torch.tensor([[-1.0, 0.0], [1.0, 1.0], [-1.0, 1.0]]), [0.4])
        >>> found.rate, found.threshold
        (tensor([0.6667], dtype=torch.float64), tensor([0.7071], dtype=torch.float64))
    """
    if wrong := [far for far in fars if not 0 < far < 1]:
        raise ValueError(f"false-alarm rate {wrong[0]} is not between 0 and 1")
    gallery, own, others = Directions(templates), Directions(probes), Directions(unenrolled)
    mates = _mates(gallery, own, people)
    _refuse_other_widths(gallery, others)
    with full_precision():
        first = _others(gallery, own, people, Directions(probes[:0]), 1, block) == 0
        alarms = _best(gallery, others, block).sort(descending=True).values
    points = torch.full((len(fars), 3), math.nan, dtype=torch.float64)
    for point, far in zip(points, fars, strict=True):
        rank = allowed(far, len(alarms))
        if rank >= 1:
            cut = int(alarms[rank])
            values = share(first & (mates > cut)), cut / GRID, share(alarms > cut)
            point[:] = torch.tensor(values, dtype=torch.float64)
    targets = torch.tensor(list(fars), dtype=torch.float64)
    return OpenSet(targets, points[:, 0], points[:, 1], points[:, 2], len(probes), len(unenrolled))


def _tile(block: int | None, device: torch.device) -> tuple[int, int]:
    """Return rows and columns of one product."""
    if block is not None:
        return block, block
    return _TILE if on_cpu(device) else _ON_GPU


def _mates(gallery: Directions, probes: Directions, people: Tensor) -> Tensor:
    if people.shape != probes.embeddings.shape[:1] or gallery.embeddings.shape[1] != probes.embeddings.shape[1]:
        raise ValueError(
            f"templates {tuple(gallery.embeddings.shape)}, probes {tuple(probes.embeddings.shape)} and people "
            f"{tuple(people.shape)} must be [P, D], [N, D] and [N]"
        )
    if not len(gallery):
        raise ValueError("the gallery is empty; enrol at least one person")
    if len(people) and not 0 <= int(people.min()) <= int(people.max()) < len(gallery):
        raise ValueError(f"people must be in 0..{len(gallery) - 1}, the rows of the gallery")
    return exact_scores(probes, torch.arange(len(people), device=people.device), gallery, people)


def _refuse_other_widths(gallery: Directions, others: Directions) -> None:
    if others.embeddings.shape[1] != gallery.embeddings.shape[1]:
        shapes = tuple(gallery.embeddings.shape), tuple(others.embeddings.shape)
        raise ValueError(f"templates and unenrolled {shapes} must be [P, D] and [M, D]")


def _others(
    gallery: Directions, probes: Directions, people: Tensor, distractors: Directions, most: int, block: int | None
) -> Tensor:
    """Return how many other entries score at least as high as each probe's own [N]; counted up to `most`."""
    mates = _mates(gallery, probes, people)
    _refuse_other_widths(gallery, distractors)
    counts = torch.zeros_like(mates)
    edges = (mates / GRID - probes.slack).to(torch.float32)
    unit, scratch = probes.unit(slice(None)), Scratch()
    rows, columns = _tile(block, unit.device)
    for entries, own in ((gallery, True), (distractors, False)):
        for start in range(0, len(entries), columns):
            chosen = slice(start, min(start + columns, len(entries)))
            for row, scores in products(unit, entries, chosen, rows, scratch):
                found = where(above(scores, edges[row : row + len(scores)]))
                i, j = row + found // scores.shape[1], start + found % scores.shape[1]
                if own:
                    i, j = i[j != people[i]], j[j != people[i]]
                higher = exact_scores(probes, i, entries, j) >= mates[i]
                counts += torch.bincount(i[higher], minlength=len(counts))
            edges[counts >= most] = math.inf  # these need no more
    return counts


def _best(gallery: Directions, unenrolled: Directions, block: int | None) -> Tensor:
    """Return the highest exact score that any entry has with each unenrolled image [M]."""
    device, scratch = unenrolled.norms.device, Scratch()
    entries = gallery.unit(slice(None))
    width, images = _tile(block, device)  # most images are unenrolled

    def of_block(begin: int) -> Tensor:
        unit = unenrolled.unit(slice(begin, begin + images), scratch)
        highest = torch.full((len(unit),), -math.inf, device=device)
        i, j = (torch.zeros(0, dtype=torch.int64, device=device) for _ in range(2))
        score = unit.new_zeros(0)  # of those that may be the highest: row i, entry j
        best = torch.full((len(unit),), -2 * GRID, dtype=torch.int64, device=device)
        for start in range(0, len(entries), width):
            columns = entries[start : start + width]
            scores = scratch("product", len(unit), len(columns), dtype=torch.float32, device=device)
            torch.mm(unit, columns.T, out=scores)
            highest = torch.maximum(highest, scores.amax(dim=1))
            at = where(above(scores, highest - 2 * unenrolled.slack))
            i, j = torch.cat([i, at // len(columns)]), torch.cat([j, start + at % len(columns)])
            score = torch.cat([score, scores.flatten().index_select(0, at)])
            still = score >= highest[i] - 2 * unenrolled.slack
            i, j, score = i[still], j[still], score[still]
            if len(i) > _MANY:  # the embedding has collapsed
                best.scatter_reduce_(0, i, exact_scores(unenrolled, begin + i, gallery, j), "amax")
                i, j, score = i[:0], j[:0], score[:0]
        return best.scatter_reduce_(0, i, exact_scores(unenrolled, begin + i, gallery, j), "amax")

    blocks = in_threads(of_block, range(0, len(unenrolled), images), threads_for(device))
    return torch.cat([torch.zeros(0, dtype=torch.int64, device=device), *blocks])
