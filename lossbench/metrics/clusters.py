"""How the embeddings of people lie in space: apart, in clumps of one person each, spread over all directions?"""

import math
import warnings
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossbench.metrics.exact.directions import BLOCK, GRID, grid_cosines, people_of, unit_rows
from lossbench.utils.threads import in_threads, threads_for


@dataclass(frozen=True)
class ClusterStatistics:
    """Each figure is that of the function of its name below; NaN where there is nothing to measure.

    silhouette: -1 to 1, 1 is best. nmi: 0 to 1; ami: at most 1, 0 by chance; 1 is best. alignment: 0 to 4, 0 is best.
    uniformity: -8 to 0, lower is more uniform, 0 is all in one point. effective_rank: 1 to D.
    """

    silhouette: float
    nmi: float
    ami: float
    alignment: float
    uniformity: float
    effective_rank: float


def cluster_statistics(embeddings: Tensor, labels: Tensor, *, seed: int = 0, kmeans: bool = True) -> ClusterStatistics:
    """Measure all cluster statistics of `embeddings` [N, D] of the people `labels` [N]; see each function below.

    None of them changes with the embeddings' norms, a rotation of all, the order of the images or the names of people.
    Without `kmeans`, which takes by far the longest, nmi and ami are NaN.

    Raises:
        ValueError: shapes that do not fit, or an embedding that is zero or not finite.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 2.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> found = cluster_statistics(embeddings, labels)
        >>> print(f"{found.silhouette:.3f} {found.ami:.3f} {found.alignment:.3f} {found.effective_rank:.3f}")
        0.825 1.000 0.200 1.171
    """
    nmi, ami = kmeans_agreement(embeddings, labels, seed=seed) if kmeans else (math.nan, math.nan)
    return ClusterStatistics(
        silhouette=silhouette(embeddings, labels),
        nmi=nmi,
        ami=ami,
        alignment=alignment(embeddings, labels),
        uniformity=uniformity(embeddings),
        effective_rank=effective_rank(embeddings),
    )


def silhouette(embeddings: Tensor, labels: Tensor, *, block: int = BLOCK) -> float:
    """Mean silhouette width of the images by cosine distance (Rousseeuw 1987, doi:10.1016/0377-0427(87)90125-7).

    An image's width is (b - a) / max(a, b): a its mean distance to the other images of its person, b the least mean
    distance to the images of another; 0 for a person of one image, and where both are below 2^-30, which is rounding.
    The mean cosine distance of u to a person is 1 - u·m, m the mean of the person's unit vectors: exact in N·P
    products.

    Args:
        embeddings: [N, D], any norm, not zero.
        labels: [N] integers.
        block: images at a time; changes memory only.

    Returns:
        -1 to 1; NaN for fewer than two people, or where no person has two images.

    Raises:
        ValueError: shapes that do not fit, or an embedding that is zero or not finite.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 2.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> round(silhouette(embeddings, labels), 6)
        0.825
    """
    unit = unit_rows(embeddings)
    people, images = people_of(embeddings, labels)
    if len(images) < 2 or len(images) == len(unit):
        return math.nan
    sums = _sums(unit, people, len(images))
    means = sums / images.unsqueeze(1)
    widths = []
    for start in range(0, len(unit), block):
        rows, own = unit[start : start + block], people[start : start + block]
        others = (images[own] - 1).to(torch.float64)
        to_own = 1 - ((rows * sums[own]).sum(dim=1) - 1) / others  # without itself, whose cosine is 1
        distances = 1 - rows @ means.T  # [rows, P]
        distances.scatter_(1, own.unsqueeze(1), math.inf)
        to_next = distances.amin(dim=1)
        larger = torch.maximum(to_own, to_next)
        widths.append(((to_next - to_own) / larger).masked_fill((others == 0) | (larger < 1 / GRID), 0.0))
    return torch.cat(widths).mean().item()


def kmeans_agreement(embeddings: Tensor, labels: Tensor, *, seed: int = 0, n_init: int = 3) -> tuple[float, float]:
    """Agreement of k-means clusters with people: normalised and adjusted mutual information (NMI, AMI).

    scikit-learn's k-means on unit vectors in float64, on the CPU, k the number of people, best of `n_init` starts by
    k-means++ from `seed`, each on one thread and several at a time. Both are divided by the arithmetic mean of the two
    entropies; AMI is corrected for chance (Vinh, Epps & Bailey 2010, JMLR 11:2837), NMI is not and grows with the
    number of people. k-means depends on the order of its points: they are put in the order of their cosines with the
    mean of all, so that neither the order of the images nor a rotation matters, except among equal cosines.

    It costs N·P·D per step, by far the slowest of these statistics.

    Args:
        embeddings: [N, D], any norm, not zero.
        labels: [N] integers.
        seed: of the starts.
        n_init: number of starts.

    Returns:
        NMI, 0 to 1, and AMI, at most 1 and about 0 by chance; NaN for fewer than two people, or where no person has
        two images: k = N clusters of one image agree with that whatever the embedding.

    Raises:
        ValueError: shapes that do not fit, or an embedding that is zero or not finite.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 2.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> nmi, ami = kmeans_agreement(embeddings, labels)
        >>> print(f"{nmi:.3f} {ami:.3f}")
        1.000 1.000
    """
    unit = unit_rows(embeddings)
    people, images = people_of(embeddings, labels)
    if len(images) < 2 or len(images) == len(unit):
        return math.nan, math.nan
    from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score  # a second to import

    order = grid_cosines(unit, unit.mean(dim=0, keepdim=True)).squeeze(1).argsort(stable=True)
    points, truth = unit[order].cpu().numpy(), people[order].cpu().numpy()
    clusters = _kmeans(points, len(images), seed, n_init)
    return float(normalized_mutual_info_score(truth, clusters)), float(adjusted_mutual_info_score(truth, clusters))


def _kmeans(points: npt.NDArray[np.float64], k: int, seed: int, n_init: int) -> npt.NDArray[np.int32]:
    """Return the clusters [N] that scikit-learn's KMeans finds with `n_init` starts, which take turns on one stream."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    states = [np.random.RandomState(seed) for _ in range(n_init)]
    for start, state in enumerate(states):  # where the starts before it leave the stream
        state.random_sample(start * (1 + (k - 1) * (2 + int(math.log(k)))))

    def from_start(state: np.random.RandomState) -> tuple[npt.NDArray[np.int32], float]:
        with threadpool_limits(1, "openmp"):  # of this thread: several add up in the order in which they finish
            found = KMeans(k, n_init=1, random_state=state).fit(points)
        return found.labels_, found.inertia_

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer different points than people: seen in the figures
        (best, least), *others = in_threads(from_start, states, threads_for(torch.device("cpu")))
    for labels, inertia in others:
        same = len(np.unique(labels.astype(np.int64) * k + best)) == len(np.unique(labels))  # but for rounding
        if inertia < least and not same:
            best, least = labels, inertia
    return best


def alignment(embeddings: Tensor, labels: Tensor) -> float:
    """Mean squared distance of the unit vectors of two images of one person, over all such pairs.

    Wang & Isola 2020, arXiv:2005.10242, with alpha = 2. All pairs count alike, so a person with more images counts
    more. With m the mean of n unit vectors, their pairs' squared distances sum to n·sum |u - m|²: no pair is formed.

    Args:
        embeddings: [N, D], any norm, not zero.
        labels: [N] integers.

    Returns:
        0 to 4; NaN where no person has two images.

    Raises:
        ValueError: shapes that do not fit, or an embedding that is zero or not finite.

    Example:
        >>> embeddings = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0], [0.0, 2.0]])
        >>> labels = torch.tensor([0, 0, 1, 1])
        >>> round(alignment(embeddings, labels), 6)
        0.2
    """
    unit = unit_rows(embeddings)
    people, images = people_of(embeddings, labels)
    pairs = int((images * (images - 1)).sum()) // 2
    if pairs == 0:
        return math.nan
    means = _sums(unit, people, len(images)) / images.unsqueeze(1)
    spread = (unit - means[people]).square().sum(dim=1)
    return (spread * images[people]).sum().item() / pairs


def uniformity(embeddings: Tensor, *, block: int = BLOCK) -> float:
    """Logarithm of the mean of exp(-2 |u - v|²) over all pairs of different images (Wang & Isola 2020, with t = 2).

    Cosines are rounded to multiples of 2^-30 and the exponentials to 2^-40, and added as whole numbers: neither the
    blocks nor the order of the images change anything, and the result errs by less than 4e-9.

    Args:
        embeddings: [N, D], any norm, not zero.
        block: rows and columns of one product; changes memory only.

    Returns:
        -8 to 0, natural logarithm: 0 where all directions are one; NaN for fewer than two images.

    Raises:
        ValueError: a shape that does not fit, or an embedding that is zero or not finite.

    Example:
        >>> round(uniformity(torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]])), 6)
        -1.499775
    """
    unit = unit_rows(embeddings)
    if len(unit) < 2:
        return math.nan
    total = 0
    for i in range(0, len(unit), block):
        for j in range(i, len(unit), block):
            cosines = grid_cosines(unit[i : i + block], unit[j : j + block]).to(torch.float64) / GRID
            kernel = (4 * (cosines - 1)).exp_().mul_(1 << 40).round_().to(torch.int64)  # |u - v|² = 2 - 2 cos
            total += sum((kernel.triu(diagonal=1) if i == j else kernel).sum(dim=1).tolist())
    return math.log(total / (len(unit) * (len(unit) - 1) // 2)) - 40 * math.log(2)


def total_variance(embeddings: Tensor) -> float:
    """Return the mean squared distance of the unit vectors from their mean: 0 where all are one, at most 1.

    Args:
        embeddings: [N, D], any norm, not zero.

    Raises:
        ValueError: a shape that does not fit, or an embedding that is zero or not finite.

    Example:
        >>> round(total_variance(torch.tensor([[1.0, 0.0], [0.0, 5.0]])), 6)
        0.5
    """
    unit = unit_rows(embeddings)
    return (unit - unit.mean(dim=0)).square().sum(dim=1).mean().item()


def effective_rank(embeddings: Tensor) -> float:
    """Effective number of directions that the unit vectors vary in (Roy & Vetterli 2007, EUSIPCO, definition 1).

    exp of the entropy of the eigenvalues of the covariance of the unit vectors, divided by their sum (the singular
    values of the covariance, that is, not of the centred vectors, which are their roots). D where they vary alike in
    all directions; near 1 where they have collapsed to a line. Vectors that have collapsed to a point, of a variance
    below 2^-30, which is rounding, have no directions and count as 1; on the way there, `uniformity` rises to 0.

    Args:
        embeddings: [N, D], any norm, not zero.

    Returns:
        1 to D (and to N - 1); NaN for fewer than two images.

    Raises:
        ValueError: a shape that does not fit, or an embedding that is zero or not finite.

    Example:
        >>> round(effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])), 6)
        2.0
    """
    unit = unit_rows(embeddings)
    if len(unit) < 2:
        return math.nan
    centred = unit - unit.mean(dim=0)
    variances = torch.linalg.eigvalsh(centred.T @ centred / len(unit)).clamp_min(0)
    if float(variances.sum()) < 1 / GRID:
        return 1.0
    shares = variances / variances.sum()
    return math.exp(-torch.xlogy(shares, shares).sum().item())


def _sums(unit: Tensor, people: Tensor, count: int) -> Tensor:
    """Return the sum of each person's unit vectors: [P, D]."""
    return torch.zeros(count, unit.shape[1], dtype=unit.dtype, device=unit.device).index_add_(0, people, unit)
