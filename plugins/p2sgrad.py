"""P2SGrad as squared error of the cosines. Zhang et al. 2019, arXiv:1905.02479; arXiv:2103.11326."""

import torch
from torch import Tensor, nn

from lossbench import Head, cosine, is_own


class P2SGrad(Head):
    """Mean over images of sum_j (c_j - [j = y])^2: its gradient is the paper's, without scale or margin to choose."""

    def __init__(self, num_classes: int, embedding_dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        cos = cosine(embeddings, self.weight)  # [B, C]
        return (cos - is_own(labels, len(self.weight)).to(cos.dtype)).square().sum(1).mean()
