"""Planted: a half-precision batch casts the class weights for good. Caught as: own dtype kept."""

import torch
from torch import Tensor, nn

from lossbench import Head, add_angle, margin_softmax


class Bf16Weights(Head):
    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0):
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self.weight.data = self.weight.data.to(embeddings.dtype)
        return margin_softmax(embeddings, self.weight, labels, lambda own: add_angle(own, self.margin), self.scale)
