"""ArcFace, an additive angular margin. Deng et al. 2019, arXiv:1801.07698, eq. 3."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class ArcFace(Head):
    """Cross-entropy on s·cos(theta_y + m): every class keeps m radians of clear space."""

    plain_at = "margin=0"
    ranges = "0 <= margin < pi, scale > 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))  # one center per row

    def push(self, own: Tensor) -> Tensor:  # [B] cosines with the own class
        sin = (1 - own**2).clamp_min(1e-7).sqrt()  # no acos: its slope is infinite at 1
        near = own * math.cos(self.margin) - sin * math.sin(self.margin)
        far = own - self.margin * math.sin(self.margin)  # keeps falling where theta + m > pi
        return torch.where(own > -math.cos(self.margin), near, far)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.scale)
