"""Planted: a scale that adapts during evaluation too. Caught as: evaluation changes nothing."""

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class ScaleInEval(Head):
    def __init__(self, num_classes: int, embedding_dim: int, *, scale: float = 64.0):
        super().__init__()
        self.scale = scale
        self.register_buffer("s", torch.tensor(scale))
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self.s *= 0.99
        return margin_softmax(embeddings, self.weight, labels, lambda own: own, float(self.s))
