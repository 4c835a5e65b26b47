"""Planted: a fall-back that is scaled once too often. Caught as: no jump with the own angle."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class Jump(Head):
    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        near = own * math.cos(self.margin) - (1 - own**2).clamp_min(1e-7).sqrt() * math.sin(self.margin)
        far = own - self.margin * math.sin(self.margin) * self.scale
        return torch.where(own > -math.cos(self.margin), near, far)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
