"""Planted: a margin taken from all classes, felt by rounding alone. Caught as: every hyper-parameter matters."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossbench import Head, cosine


class MarginForAll(Head):
    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.35, scale: float = 64.0):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.scale * (cosine(embeddings, self.weight) - self.margin), labels)
