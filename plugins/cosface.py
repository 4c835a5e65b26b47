"""CosFace, an additive cosine margin. Wang et al. 2018, arXiv:1801.09414, eq. 4."""

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class CosFace(Head):
    """Cross-entropy on s·(cos(theta_y) - m): the own class must win by a cosine of m."""

    plain_at = "margin=0"
    ranges = "0 <= margin <= 2, scale > 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.35, scale: float = 64.0):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        return own - self.margin

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
