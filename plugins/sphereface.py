"""SphereFace, a multiplicative angular margin. Liu et al. 2017, arXiv:1704.08063, eq. 7, with its annealing."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class SphereFace(Head):
    """Cross-entropy on ||x||·[c + (psi(theta_y) - c)/(1 + lambda)], psi = (-1)^k cos(m·theta) - 2k."""

    uses_norm, plain_at = True, "margin=1"  # the modified softmax: the norm is the scale
    ranges = "1 <= margin <= 100, lambda_min >= 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: int = 4, lambda_min: float = 5.0):
        super().__init__()
        self.margin, self.lambda_min = margin, lambda_min
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))
        self.register_buffer("step", torch.zeros((), dtype=torch.float64))  # t: training steps so far

    def annealing(self) -> Tensor:  # lambda: from 1000 down, the plain softmax fading into the margin
        return (1000 / (1 + 0.12 * self.step)).clamp_min(self.lambda_min)

    def push(self, own: Tensor) -> Tensor:  # [B] cosines with the own class
        before, cos_m = torch.ones_like(own), own
        for _ in range(self.margin - 1):  # Chebyshev: cos(m·theta) from cos(theta) without acos
            before, cos_m = cos_m, 2 * own * cos_m - before
        theta = own.detach().clamp(-1, 1).acos()
        k = (self.margin * theta / math.pi).floor().clamp_max(self.margin - 1)  # the last piece ends at theta = pi
        psi = (1 - 2 * (k % 2)) * cos_m - 2 * k
        return own + (psi - own) / (1 + self.annealing().to(own.dtype))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if self.training:
            self.step += 1
        norms = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)).norm(dim=1)
        return margin_softmax(embeddings, self.weight, labels, self.push, norms)
