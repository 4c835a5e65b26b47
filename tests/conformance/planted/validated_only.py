"""Planted: m2 is validated and then ignored. Caught as: every hyper-parameter matters."""

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class ValidatedOnly(Head):
    ranges = "0 <= m1 <= 2, scale > 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, m1: float = 0.3, m2: float = 0.2, scale: float = 64.0):
        super().__init__()
        if not 0 <= m2 <= 1:
            raise ValueError(f"m2 is {m2}; it must be at least 0 and at most 1")
        self.m1, self.scale = m1, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, lambda own: own - self.m1, self.scale)
