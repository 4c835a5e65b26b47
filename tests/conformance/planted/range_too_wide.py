"""Planted: a range whose lower end divides by 0. Caught as: finite at the ends of its ranges."""

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class RangeTooWide(Head):
    ranges = "0 <= margin <= 2, temperature >= 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.3, temperature: float = 0.02):
        super().__init__()
        self.margin = margin
        self.scale = 1 / torch.tensor(temperature)
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, lambda own: own - self.margin, float(self.scale))
