"""P2SGrad as squared error of the cosines. Zhang et al. 2019, arXiv:1905.02479; arXiv:2103.11326."""

import torch
from torch import Tensor, nn

from lossbench import Head, sum_over_classes


class P2SGrad(Head):
    """Mean over images of sum_j (c_j - [j = y])^2: its gradient is the paper's, without scale or margin to choose."""

    def __init__(self, num_classes: int, embedding_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def part(self, cos: Tensor, own: Tensor) -> Tensor:  # [B, n] cosines, true at the own class -> [B]
        return (cos - own.to(cos.dtype)).square().sum(1)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return sum_over_classes(embeddings, self.weight, labels, self.part).mean()
