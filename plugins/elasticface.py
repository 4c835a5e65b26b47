"""ElasticFace-Arc, an angular margin drawn for every image. Boutros et al. 2022, arXiv:2109.09416."""

import torch
from torch import Tensor, nn

from lossbench import Head, add_angle, margin_softmax


class ElasticFace(Head):
    """Cross-entropy on s·cos(theta_y + E), E from N(m, sigma); in evaluation E is m."""

    plain_at = "margin=0:sigma=0"
    ranges = "0 <= margin < pi, sigma >= 0, scale > 0"

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, sigma: float = 0.05, scale: float = 64.0
    ):
        super().__init__()
        self.margin, self.sigma, self.scale = margin, sigma, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        margin = torch.full_like(own, self.margin)
        if self.training:
            margin = margin + self.sigma * torch.randn_like(own)
        return add_angle(own, margin)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
