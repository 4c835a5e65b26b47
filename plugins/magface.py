"""MagFace, a margin that grows with the norm, and norms that grow. Meng et al. 2021, arXiv:2103.06627, eq. 3."""

import torch
from torch import Tensor, nn

from lossbench import Head, add_angle, margin_softmax


class MagFace(Head):
    """ArcFace with m(a) linear in the norm a within 10..110, plus lambda_g·(a/110^2 + 1/a)."""

    uses_norm = True
    plain_at = "lower_margin=0:upper_margin=0:lambda_g=0"
    lower_norm, upper_norm = 10.0, 110.0
    ranges = "0 <= lower_margin < pi, 0 <= upper_margin < pi, lambda_g >= 0, scale > 0"

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        lower_margin: float = 0.45,
        upper_margin: float = 0.8,
        lambda_g: float = 35.0,
        scale: float = 64.0,
    ):
        super().__init__()
        self.lower_margin, self.upper_margin, self.lambda_g, self.scale = lower_margin, upper_margin, lambda_g, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        dtype = torch.promote_types(embeddings.dtype, torch.float32)
        a = embeddings.to(dtype).norm(dim=1).clamp(self.lower_norm, self.upper_norm)  # [B]
        slope = (self.upper_margin - self.lower_margin) / (self.upper_norm - self.lower_norm)
        margin = self.lower_margin + slope * (a - self.lower_norm)
        loss = margin_softmax(embeddings, self.weight, labels, lambda own: add_angle(own, margin), self.scale)
        return loss + self.lambda_g * (a / self.upper_norm**2 + 1 / a).mean()
