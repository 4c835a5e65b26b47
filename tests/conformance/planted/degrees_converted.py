"""Planted: half a radian, turned into radians once more. Caught as: margins are radians."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, add_angle, margin_softmax


class DegreesConverted(Head):
    ranges = "0 <= margin < pi, scale > 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0):
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        return add_angle(own, math.radians(self.margin))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
