"""Planted: the angle by acos, whose slope is infinite at 1. Caught as: finite at cos = 1 and -1."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class AcosSlope(Head):
    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0):
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        theta = own.acos()
        return torch.where(theta + self.margin < math.pi, (theta + self.margin).cos(), own - self.margin)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
