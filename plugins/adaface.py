"""AdaFace, a margin by image quality, for which the norm stands. Kim et al. 2022, arXiv:2204.00964."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, angle, margin_softmax


class AdaFace(Head):
    """Cross-entropy on s·(cos(theta_y - m·z) - m(1 + z)), z the norm's deviation from the batch, within -1..1."""

    uses_norm, plain_at = True, "margin=0"
    stops_gradient = "the quality z, a function of the norm"
    ranges = "0 <= margin < pi, h > 0, scale > 0, 0 <= t_alpha <= 1"

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin: float = 0.4, h: float = 0.333, scale: float = 64.0,
        t_alpha: float = 1.0,
    ):  # fmt: skip
        super().__init__()
        self.margin, self.h, self.scale, self.t_alpha = margin, h, scale, t_alpha
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))
        self.register_buffer("statistics", torch.tensor([20.0, 100.0]))  # mu and sigma of the norms, the code's start
        self.statistics: Tensor

    def quality(self, embeddings: Tensor) -> Tensor:
        norms = embeddings.detach().to(self.statistics.dtype).norm(dim=1)
        if self.training and len(norms) > 1:  # one image has no deviation
            self.statistics.lerp_(torch.stack([norms.mean(), norms.std()]), self.t_alpha)
        return (self.h * (norms - self.statistics[0]) / (self.statistics[1] + 1e-3)).clamp(-1, 1)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        z = self.quality(embeddings)

        def push(own: Tensor) -> Tensor:
            return (angle(own) - self.margin * z).clamp(0, math.pi).cos() - self.margin * (1 + z)

        return margin_softmax(embeddings, self.weight, labels, push, self.scale)
