"""Planted: m2 is taken and never used, as in a public combined margin. Caught as: every hyper-parameter matters."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, angle, margin_softmax


class IgnoredM2(Head):
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
        self.scale = scale
        self.m1, self.m2, self.m3 = m1, m2, m3
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        return (self.m1 * angle(own)).clamp_max(math.pi).cos() - self.m3

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
