"""Cross-entropy of W x + b, the baseline without any normalisation."""

import torch.nn.functional as F
from torch import Tensor, nn

from lossbench import Head, linear


class CE(Head):
    """Softmax over a linear layer with bias; nothing asks embeddings of one person to lie close together."""

    uses_norm = True

    def __init__(self, num_classes: int, embedding_dim: int):
        super().__init__()
        layer = nn.Linear(embedding_dim, num_classes)
        self.weight, self.bias = layer.weight, layer.bias

    def logits(self, embeddings: Tensor) -> Tensor:
        return linear(embeddings, self.weight, self.bias)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.logits(embeddings), labels)
