"""AdaCos, a scale that follows the training. Zhang et al. 2019, arXiv:1905.00292."""

import math

import torch
from torch import Tensor, nn

from lossbench import Head, angle, cosine, is_own, margin_softmax, own_cosine


class AdaCos(Head):
    """Cross-entropy on s·cos(theta), s = ln B_avg / cos(min(pi/4, median theta_y)), updated in every training step."""

    def __init__(self, num_classes: int, embedding_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))
        start = math.sqrt(2) * math.log(max(num_classes - 1, 2))  # ln 1 would be no scale at all
        self.register_buffer("scale", torch.tensor(start, dtype=torch.float64))
        self.scale: Tensor

    @torch.no_grad()
    def adapt(self, embeddings: Tensor, labels: Tensor) -> None:
        cos = cosine(embeddings, self.weight).double()
        others = (self.scale * cos).masked_fill(is_own(labels, len(self.weight)), -torch.inf)
        ln_b = others.flatten().logsumexp(0) - math.log(len(labels))
        median = angle(own_cosine(embeddings, self.weight, labels).double()).sort().values[(len(labels) - 1) // 2]
        self.scale.copy_((ln_b / median.clamp_max(math.pi / 4).cos()).clamp_min(1.0))  # a scale below 0 would repel

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if self.training:
            self.adapt(embeddings, labels)
        return margin_softmax(embeddings, self.weight, labels, lambda own: own, self.scale)
