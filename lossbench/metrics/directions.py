"""What the metrics of embeddings share: unit rows, and cosines on a grid so that equal ones tie."""

import torch
from torch import Tensor

GRID = 1 << 30  # scores are whole multiples of 1/GRID: cosines closer than 1e-9 may count as equal
BLOCK = 2048  # rows and columns of one product: 32 MiB of float64 scores


def unit_rows(embeddings: Tensor) -> Tensor:
    """Return the directions of `embeddings` [N, D], any norm: [N, D] float64 of norm 1, on the same device.

    Raises:
        ValueError: not two dimensions, or an embedding that is zero or not finite.
    """
    if embeddings.ndim != 2:
        raise ValueError(f"embeddings {tuple(embeddings.shape)} must be [N, D]")
    embeddings = embeddings.to(torch.float64)
    norms: Tensor = embeddings.norm(dim=1, keepdim=True)
    if not bool(((norms > 0) & norms.isfinite()).all()):
        raise ValueError("an embedding is zero or not finite; it has no direction to compare")
    return embeddings / norms


def grid_cosines(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the cosines of unit `rows` [R, D] and `columns` [C, D] in multiples of 2^-30: [R, C] int32.

    Cosines that are equal in exact arithmetic become equal numbers whatever order the sums were made in.
    """
    return (rows @ columns.T).mul_(GRID).round_().to(torch.int32)


def people_of(embeddings: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return who is on each image [N] int64, in 0..P-1, and each person's images [P] int64, on the embeddings' device.

    Args:
        embeddings: [N, D], for its length and device.
        labels: [N] integers, with or without gaps.

    Raises:
        ValueError: labels that are not one per image.
    """
    if labels.shape != embeddings.shape[:1]:
        raise ValueError(f"labels {tuple(labels.shape)} must be [{len(embeddings)}], one per embedding")
    _, people, images = torch.unique(labels.to(embeddings.device), return_inverse=True, return_counts=True)
    return people, images
