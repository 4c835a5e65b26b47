"""Planted: logits with the margin on every class. Caught as: logits without margin."""

import torch
from torch import Tensor, nn

from lossbench import Head, cosine, margin_softmax


class MarginEverywhere(Head):
    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0):
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        return own - self.margin

    def logits(self, embeddings: Tensor) -> Tensor:
        return self.scale * self.push(cosine(embeddings, self.weight))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
