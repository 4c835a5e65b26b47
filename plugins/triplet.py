"""Triplet loss with semi-hard mining in the batch. Schroff et al. 2015 (FaceNet), arXiv:1503.03832, eq. 1 and 3.2."""

import torch
from pytorch_metric_learning.distances import LpDistance
from pytorch_metric_learning.losses import TripletMarginLoss
from pytorch_metric_learning.miners import TripletMarginMiner
from torch import Tensor

from lossbench import Head


class Triplet(Head):
    """Mean of [d_ap - d_an + alpha]+ over semi-hard triplets, d the squared distance of unit embeddings."""

    samples_per_class = 4
    ranges = "0 <= margin <= 4"  # squared distances of unit embeddings end at 4

    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.2):
        super().__init__()
        distance = LpDistance(power=2)  # squared, as in the paper; the library's default is not
        self.loss = TripletMarginLoss(margin=margin, distance=distance)
        self.miner = TripletMarginMiner(margin=margin, type_of_triplets="semihard", distance=distance)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
        return self.loss(embeddings, labels, self.miner(embeddings, labels))
