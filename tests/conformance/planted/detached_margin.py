"""Planted: the margin under no_grad, as in a public ArcFace. Caught as: gradient is the loss's derivative."""

import torch
from torch import Tensor, nn

from lossbench import Head, add_angle, margin_softmax


class DetachedMargin(Head):
    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0):
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        with torch.no_grad():
            moved = add_angle(own, self.margin) - own
        return own + moved

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
