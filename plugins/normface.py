"""NormFace, the softmax of scaled cosines, without margin. Wang et al. 2017, arXiv:1704.06369."""

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class NormFace(Head):
    """Cross-entropy on s·cos(theta): what remains of a margin loss when its margin is 0."""

    plain_at = ""
    ranges = "scale > 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, scale: float = 30.0):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, lambda own: own, self.scale)
