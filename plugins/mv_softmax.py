"""MV-AM-Softmax, misclassified classes weighed more. Wang et al. 2020, arXiv:1912.00833."""

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax, own_cosine


class MVSoftmax(Head):
    """CosFace whose hard classes, c_j > cos(theta_y) - m, count as t·c_j + t - 1."""

    ranges = "0 <= margin <= 2, scale > 0, t >= 1"

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin: float = 0.35, scale: float = 32.0, t: float = 1.12
    ):
        super().__init__()
        self.margin, self.scale, self.t = margin, scale, t
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        hard = (own_cosine(embeddings, self.weight, labels) - self.margin).unsqueeze(1)

        def others(cos: Tensor) -> Tensor:
            return torch.where(cos > hard, self.t * cos + self.t - 1, cos)

        return margin_softmax(embeddings, self.weight, labels, lambda own: own - self.margin, self.scale, others)
