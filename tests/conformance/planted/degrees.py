"""Planted: a margin in degrees where theta is in radians. Caught as: margins are radians."""

import torch
from torch import Tensor, nn

from lossbench import Head, add_angle, margin_softmax


class Degrees(Head):
    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 28.6, scale: float = 64.0):
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        return add_angle(own, self.margin)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
