"""Center loss beside cross-entropy. Wen et al. 2016, ECCV, "A discriminative feature learning approach", eq. 5."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossbench import Head, linear


class Center(Head):
    """Cross-entropy of W x + b plus lambda/2·||x - c_y||^2; the optimiser moves the centers c, not a rate alpha."""

    uses_norm = True
    ranges = "lambda_center >= 0"

    def __init__(self, num_classes: int, embedding_dim: int, *, lambda_center: float = 0.003):
        super().__init__()
        self.lambda_center = lambda_center
        layer = nn.Linear(embedding_dim, num_classes)
        self.weight, self.bias = layer.weight, layer.bias
        self.centers = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def logits(self, embeddings: Tensor) -> Tensor:
        return linear(embeddings, self.weight, self.bias)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        distance = (embeddings.to(self.centers.dtype) - self.centers[labels]).square().sum(1)  # [B]
        return F.cross_entropy(self.logits(embeddings), labels) + self.lambda_center / 2 * distance.mean()
