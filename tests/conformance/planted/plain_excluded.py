"""Planted: plain where its own range forbids it. Caught as: margin 0 is the plain softmax."""

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class PlainExcluded(Head):
    plain_at = "margin=0"
    ranges = "margin > 0, scale > 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.3, scale: float = 64.0):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, lambda own: own - self.margin, self.scale)
