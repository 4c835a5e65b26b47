"""SphereFace-R v1, a multiplicative margin that ends at pi. Liu et al. 2022, arXiv:2109.05565."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, angle, margin_softmax


class SphereFaceR(Head):
    """Cross-entropy on s·cos(min(m·theta_y, pi)), features of fixed norm s; flat where m·theta > pi."""

    plain_at = "margin=1"
    ranges = "margin >= 1, scale > 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 1.5, scale: float = 30.0):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        return (self.margin * angle(own)).clamp_max(math.pi).cos()

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
