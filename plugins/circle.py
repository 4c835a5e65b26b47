"""Circle loss at class level, every similarity at its own pace. Sun et al. 2020, arXiv:2002.10857."""

import torch
from torch import Tensor, nn

from lossbench import Head, margin_softmax


class Circle(Head):
    """Cross-entropy on gamma·[1 + m - c]+·(c - 1 + m) and gamma·[c_j + m]+·(c_j - m); smaller m asks for more."""

    stops_gradient = "the weights [1 + m - c]+ and [c_j + m]+"
    ranges = "-1 < relaxation < 1, gamma > 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, relaxation: float = 0.25, gamma: float = 256.0):
        super().__init__()
        self.relaxation, self.gamma = relaxation, gamma
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def push(self, own: Tensor) -> Tensor:
        return (1 + self.relaxation - own).clamp_min(0).detach() * (own - 1 + self.relaxation)

    def others(self, cos: Tensor) -> Tensor:
        return (cos + self.relaxation).clamp_min(0).detach() * (cos - self.relaxation)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return margin_softmax(embeddings, self.weight, labels, self.push, self.gamma, self.others)
