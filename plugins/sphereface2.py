"""SphereFace2-C, binary classification on a sphere. Wen et al. 2022, arXiv:2108.01513."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossbench import Head, sum_over_classes


class SphereFace2(Head):
    """(lambda·softplus(-r(g(c) - m) - b) + (1 - lambda)·sum softplus(r(g(c_j) + m) + b)) / r."""

    ranges = "0 <= margin <= 1, scale > 0, power >= 1, 0 < balance < 1"

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin: float = 0.4, scale: float = 40.0, power: float = 3.0,
        balance: float = 0.7,
    ):  # fmt: skip
        super().__init__()
        self.margin, self.scale, self.power, self.balance = margin, scale, power, balance
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))
        # b starts where positives and negatives pull alike while all cosines are 0: lambda·p = (1 - lambda)(C - 1)·n
        low, high = (scale * (2 * 0.5**power - 1 + m) for m in (-margin, margin))
        z = balance / max((1 - balance) * (num_classes - 1), 1e-6)
        root = math.sqrt((1 - z) ** 2 + 4 * z * math.exp(low - high))
        b = math.log(2 * z / (1 - z + root)) - high if z < 1 else math.log((root + z - 1) / 2) - low  # equal at z = 1
        self.bias = nn.Parameter(torch.tensor(b))

    def part(self, cos: Tensor, own: Tensor, bias: Tensor) -> Tensor:  # [B, n] cosines, true at the own class -> [B]
        g = 2 * ((cos.clamp_min(-1) + 1) / 2) ** self.power - 1
        positive = F.softplus(-self.scale * (g - self.margin) - bias) * self.balance
        negative = F.softplus(self.scale * (g + self.margin) + bias) * (1 - self.balance)
        return torch.where(own, positive, negative).sum(1)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        return sum_over_classes(embeddings, self.weight, labels, self.part, self.bias).mean() / self.scale
