"""CurricularFace, hard classes weighed more as training proceeds. Huang et al. 2020, arXiv:2004.00288."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, add_angle, margin_softmax, own_cosine


class CurricularFace(Head):
    """ArcFace whose hard classes, c_j > cos(theta_y + m), count as c_j(t + c_j); t: the running mean of c."""

    ranges = "0 <= margin < pi, scale > 0, 0 <= alpha <= 1"

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0, alpha: float = 0.01
    ):
        super().__init__()
        self.margin, self.scale, self.alpha = margin, scale, alpha
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))
        self.register_buffer("t", torch.zeros(()))
        self.t: Tensor

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        own = own_cosine(embeddings, self.weight, labels)
        if self.training:
            self.t.lerp_(own.mean().to(self.t.dtype), self.alpha)
        sin = (1 - own**2).clamp_min(0).sqrt()  # a threshold: nothing flows through it
        hard = (own * math.cos(self.margin) - sin * math.sin(self.margin)).unsqueeze(1)
        t = self.t.clone()  # the next step moves the buffer

        def others(cos: Tensor) -> Tensor:
            return torch.where(cos > hard, cos * (t + cos), cos)

        return margin_softmax(
            embeddings, self.weight, labels, lambda own: add_angle(own, self.margin), self.scale, others
        )
