"""UniFace, one threshold for all: unified cross-entropy. Zhou et al. 2023, ICCV, "UniFace"."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossbench import Head, cosine, is_own


class UniFace(Head):
    """softplus(b - s(cos(theta_y) - m)) + sum of softplus(s·c_j - b): b parts own from other classes."""

    ranges = "0 <= margin <= 2, scale > 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.4, scale: float = 64.0):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))
        self.bias = nn.Parameter(torch.tensor(math.log(10 * num_classes)))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cos = cosine(embeddings, self.weight)  # [B, C]
        positive = F.softplus(self.bias - self.scale * (cos - self.margin))
        negative = F.softplus(self.scale * cos - self.bias)
        return torch.where(is_own(labels, len(self.weight)), positive, negative).sum(1).mean()
