"""Planted: logits with the margin of the last batch's labels. Caught as: logits without margin."""

import torch
from torch import Tensor, nn

from lossbench import Head, cosine, margin_softmax


class MarginLogits(Head):
    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0):
        super().__init__()
        self.scale = scale
        self.margin = margin
        self.labels: Tensor | None = None
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def logits(self, embeddings: Tensor) -> Tensor:
        cos = cosine(embeddings, self.weight)
        if self.labels is None or len(self.labels) != len(cos):
            return self.scale * cos
        return self.scale * cos.scatter_add(1, self.labels.unsqueeze(1), cos.new_full((len(cos), 1), -self.margin))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        self.labels = labels
        return margin_softmax(embeddings, self.weight, labels, lambda own: own - self.margin, self.scale)
