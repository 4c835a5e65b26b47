"""Angles of embeddings, as in table 3 of the ArcFace paper."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lossbench.metrics.accuracy import class_means


@dataclass(frozen=True)
class AngleStatistics:
    """Four mean angles in degrees, 0 to 180. NaN where there is nothing to measure.

    w_ec: between a class center and its class's mean embedding. w_inter: from a center to the nearest other center.
    intra: from a sample to its class mean. inter: from a class mean to the nearest other class mean.
    """

    w_ec: float
    w_inter: float
    intra: float
    inter: float


def angle_statistics(embeddings: Tensor, labels: Tensor, centers: Tensor | None = None) -> AngleStatistics:
    """Measure how tight the classes are and how far apart (Deng et al. 2019, arXiv:1801.07698, table 3).

    Class means are means of unit vectors, normalised. Labels may have gaps; absent classes do not count, except that
    `centers` are compared with one another as they are. Neither the embeddings' norms nor a rotation of all of them
    changes anything.

    Args:
        embeddings: [N, D], any norm.
        labels: [N] int64, >= 0; where centers are given, in 0..C-1.
        centers: [C, D] class centers of the head, any norm; None where it has none (then w_ec and w_inter are NaN).

    Returns:
        Degrees. inter and w_inter are NaN for fewer than two classes.

    Example:
        >>> found = angle_statistics(torch.tensor([[3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]), torch.tensor([0, 0, 1]))
        >>> print(f"{found.intra:.1f} {found.inter:.1f} {found.w_ec}")
        30.0 135.0 nan
    """
    present, compact = torch.unique(labels, return_inverse=True)
    means = class_means(embeddings, compact, len(present))
    unit = F.normalize(embeddings.to(torch.float64), dim=1)
    w_ec = w_inter = math.nan
    if centers is not None:
        centers = F.normalize(centers.detach().to(torch.float64), dim=1)
        w_ec = _degrees((centers[present] * means).sum(dim=1)).mean().item()
        w_inter = _nearest_other(centers)
    return AngleStatistics(
        w_ec, w_inter, _degrees((unit * means[compact]).sum(dim=1)).mean().item(), _nearest_other(means)
    )


def _degrees(cos: Tensor) -> Tensor:
    return torch.rad2deg(cos.clamp(-1, 1).acos())


def _nearest_other(rows: Tensor, block: int = 2048) -> float:
    if len(rows) < 2:
        return math.nan
    nearest = []
    for start in range(0, len(rows), block):  # in blocks: C x C is too much for many classes
        cos = rows[start : start + block] @ rows.T
        cos.diagonal(offset=start).fill_(-math.inf)
        nearest.append(cos.amax(dim=1))
    return _degrees(torch.cat(nearest)).mean().item()
