"""The combined margin cos(m1·theta + m2) - m3. Deng et al. 2019, arXiv:1801.07698, eq. 4."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, angle, margin_softmax


class CombinedMargin(Head):
    """Cross-entropy on s·(cos(m1·theta_y + m2) - m3), which falls on beyond pi in the pieces of SphereFace's psi."""

    plain_at = "m1=1:m2=0:m3=0"
    ranges = "m1 > 0, 0 <= m2 < pi, 0 <= m3 <= 2, scale > 0"

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        m1: float = 1.0,
        m2: float = 0.3,
        m3: float = 0.2,
        scale: float = 64.0,
    ):
        super().__init__()
        self.m1, self.m2, self.m3, self.scale = m1, m2, m3, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        phi = self.m1 * angle(own) + self.m2
        k = (phi.detach() / math.pi).floor().clamp_min(0)
        return (1 - 2 * (k % 2)) * phi.cos() - 2 * k - self.m3

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
