"""Closed-set accuracy: is the training person on an image recognised?"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def share(hits: Tensor) -> float:
    """Return the share of true entries of `hits` [N] (bool), in float64; NaN when N = 0.

    Example:
        >>> share(torch.tensor([True, False, True, True]))
        0.75
    """
    return hits.to(torch.float64).mean().item()


def logit_hits(logits: Tensor, labels: Tensor) -> Tensor:
    """Return which rows [N] (bool) of `logits` [N, C] (margin-free) have their largest entry at `labels` [N].

    Example:
        >>> logit_hits(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]), torch.tensor([0, 1, 1]))
        tensor([ True,  True, False])
    """
    return logits.argmax(dim=1) == labels


def logit_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of `logit_hits`; NaN when N = 0.

    Example:
        >>> logit_accuracy(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4], [0.1, 0.3]]), torch.tensor([0, 1, 1, 1]))
        0.75
    """
    return share(logit_hits(logits, labels))


def class_means(embeddings: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Return the mean direction of every class: mean of unit vectors, normalised again.

    Args:
        embeddings: [N, D], any norm.
        labels: [N] int64 in 0..C-1.
        num_classes: C. A class without images gets a row of NaN.

    Returns:
        [C, D] float64.

    Example:
        >>> class_means(torch.tensor([[3.0, 0.0], [0.0, 2.0], [0.0, -3.0]]), torch.tensor([0, 0, 1]), 2)
        tensor([[ 0.7071,  0.7071],
                [ 0.0000, -1.0000]], dtype=torch.float64)
    """
    unit = F.normalize(embeddings.to(torch.float64), dim=1)
    sums = torch.zeros(num_classes, unit.shape[1], dtype=torch.float64, device=unit.device)
    sums.index_add_(0, labels, unit)
    counts = torch.bincount(labels, minlength=num_classes).unsqueeze(1)
    return F.normalize(sums, dim=1).masked_fill(counts == 0, math.nan)


def nearest_mean_hits(embeddings: Tensor, labels: Tensor, train: Tensor, train_labels: Tensor) -> Tensor:
    """Return which `embeddings` [N, D] have their own label's as the nearest class mean of `train` [M, D], by cosine.

    It needs no class weights, so every loss can be measured by it. Classes without training images cannot be hit.

    Returns:
        [N] bool.

    Example:
        >>> train, train_labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> nearest_mean_hits(torch.tensor([[3.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1]), train, train_labels)
        tensor([ True, False])
    """
    if len(labels) == 0:
        return torch.zeros(0, dtype=torch.bool)
    means = class_means(train, train_labels, int(max(labels.max(), train_labels.max())) + 1)
    scores = F.normalize(embeddings.to(torch.float64), dim=1) @ means.nan_to_num(0.0).T
    empty = means[:, 0].isnan()
    return logit_hits(scores.masked_fill(empty, -math.inf), labels)


def nearest_mean_accuracy(embeddings: Tensor, labels: Tensor, train: Tensor, train_labels: Tensor) -> float:
    """Share of `nearest_mean_hits`; NaN when N = 0.

    Example:
        >>> train, train_labels = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])
        >>> nearest_mean_accuracy(torch.tensor([[3.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1]), train, train_labels)
        0.5
    """
    return share(nearest_mean_hits(embeddings, labels, train, train_labels))
