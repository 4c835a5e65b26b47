"""Planted: cos(theta + m) beyond pi, where it rises again. Caught as: loss falls with the own angle."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class NoFallback(Head):
    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0):
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        sin = (1 - own**2).clamp_min(1e-7).sqrt()
        return own * math.cos(self.margin) - sin * math.sin(self.margin)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
