"""UniFace, one threshold for all: unified cross-entropy. Zhou et al. 2023, ICCV, "UniFace"."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossbench import Head, sum_over_classes


class UniFace(Head):
    """softplus(b - s(cos(theta_y) - m)) + sum of softplus(s·c_j - b): b parts own from other classes."""

    ranges = "0 <= margin <= 2, scale > 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.4, scale: float = 64.0):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))
        self.bias = nn.Parameter(torch.tensor(math.log(10 * num_classes)))

    def part(self, cos: Tensor, own: Tensor, bias: Tensor) -> Tensor:  # [B, n] cosines, true at the own class -> [B]
        positive = F.softplus(bias - self.scale * (cos - self.margin))
        negative = F.softplus(self.scale * cos - bias)
        return torch.where(own, positive, negative).sum(1)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return sum_over_classes(embeddings, self.weight, labels, self.part, self.bias).mean()
