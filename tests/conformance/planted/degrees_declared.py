"""Planted: a margin in radians that is declared to be in degrees. Caught as: margins are radians."""

import torch
from torch import Tensor, nn

from lossbench import Head, add_angle, margin_softmax


class DegreesDeclared(Head):
    margin_in_degrees = True

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, lambda own: add_angle(own, self.margin), self.scale)
