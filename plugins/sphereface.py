"""SphereFace, a multiplicative angular margin. Liu et al. 2017, arXiv:1704.08063, eq. 7, annealed."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class SphereFace(Head):
    """Cross-entropy on ||x||·[c + (psi(theta_y) - c)/(1 + lambda)], psi = (-1)^k cos(m·theta) - 2k.

    The paper's lambda counts steps; here 1 + lambda falls from 1001 with the share of the training that is done. A net
    that learns late would meet the whole margin before it knows anything, and collapse.
    """

    uses_norm, plain_at = True, "margin=1"  # the modified softmax: the norm is the scale
    ranges = "1 <= margin <= 100, lambda_min >= 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: int = 4, lambda_min: float = 5.0):
        super().__init__()
        self.margin, self.lambda_min = margin, lambda_min
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))
        self.register_buffer("annealing", torch.tensor(lambda_min, dtype=torch.float64))  # lambda

    def progress(self, share: float) -> None:  # from 1000 down, the plain softmax fading into the margin
        self.annealing.fill_(1001 ** (1 - share) * (1 + self.lambda_min) ** share - 1)

    def push(self, own: Tensor) -> Tensor:  # [B] cosines with the own class
        before, cos_m = torch.ones_like(own), own
        for _ in range(self.margin - 1):  # Chebyshev: cos(m·theta) from cos(theta) without acos
            before, cos_m = cos_m, 2 * own * cos_m - before
        k = (self.margin * own.detach().clamp(-1, 1).acos() / math.pi).floor().clamp_max(self.margin - 1)  # 0..m-1
        psi = (1 - 2 * (k % 2)) * cos_m - 2 * k
        return own + (psi - own) / (1 + self.annealing.to(own.dtype))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        norms = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)).norm(dim=1)
        return margin_softmax(embeddings, self.weight, labels, self.push, norms)
