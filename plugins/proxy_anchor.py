"""Proxy-Anchor, every class's proxy an anchor for the whole batch. Kim et al. 2020, arXiv:2003.13911, eq. 4."""

import torch
from torch import Tensor, nn

from lossbench import Head, sum_over_classes


class ProxyAnchor(Head):
    """A proxy: ln(1 + sum exp(-alpha(c - delta))) over its images and ln(1 + sum exp(alpha(c + delta))) over others."""

    ranges = "0 <= margin <= 1, alpha > 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.1, alpha: float = 32.0):
        super().__init__()
        self.margin, self.alpha = margin, alpha
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def part(self, cos: Tensor, own: Tensor) -> Tensor:  # [B, n] cosines, true at the own class -> [3]
        positive = (-self.alpha * (cos - self.margin)).masked_fill(~own, -torch.inf)
        negative = (self.alpha * (cos + self.margin)).masked_fill(own, -torch.inf)
        nothing = cos.new_zeros(1, cos.shape[1])  # the 1 of ln(1 + sum): exp(0)
        pulls, pushes = (torch.cat([nothing, z]).logsumexp(0) for z in (positive, negative))  # [C]
        return torch.stack([pulls.sum(), pushes.sum(), own.any(0).sum()])

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        pulls, pushes, present = sum_over_classes(embeddings, self.weight, labels, self.part)
        return pulls / present + pushes / len(self.weight)
