"""Sub-center ArcFace, several centers a class. Deng et al. 2020, ECCV, "Sub-center ArcFace"."""

import torch
from torch import Tensor, nn

from lossbench import Head, add_angle, cosine, count_at, margin_softmax, own_cosine


class SubcenterArcFace(Head):
    """ArcFace on the nearest of K centers per class, so that noisy images find a center of their own."""

    plain_at = "margin=0"
    ranges = "0 <= margin < pi, scale > 0, 1 <= centers <= 1000"

    def __init__(
        self, num_classes: int, embedding_dim: int, *, margin: float = 0.5, scale: float = 64.0, centers: int = 3
    ):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, centers, embedding_dim))
        self.register_buffer("wins", torch.zeros(num_classes, centers))  # training images nearest to each center
        self.wins: Tensor

    def logits(self, embeddings: Tensor) -> Tensor:
        return cosine(embeddings, self.weight.flatten(0, 1)).unflatten(1, self.weight.shape[:2]).amax(2)

    def class_centers(self) -> Tensor:  # the dominant one of each class
        rows = torch.arange(len(self.weight), device=self.weight.device)
        return nn.functional.normalize(self.weight.detach()[rows, self.wins.argmax(1)], dim=1)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        if self.training:
            winner = own_cosine(embeddings, self.weight, labels).argmax(1)
            count_at(self.wins.view(-1), labels * self.wins.shape[1] + winner)
        return margin_softmax(embeddings, self.weight, labels, lambda own: add_angle(own, self.margin), self.scale)
