"""ArcFace plus a triplet loss: arcface + w * triplet. Deng et al. 2019, arXiv:1801.07698, table 2."""

from lossbench import Mix, load_head


class ArcFaceTriplet(Mix):
    """ArcFace's class centers and, beside them, pairs of images: semi-hard triplets of the same batch."""

    ranges = "0 <= margin < pi, scale > 0, triplet_weight >= 0, 0 <= triplet_margin <= 4"

    def __init__(
        self,
        num_classes: int,
        embedding_dim: int,
        *,
        margin: float = 0.5,
        scale: float = 64.0,
        triplet_weight: float = 1.0,
        triplet_margin: float = 0.2,
    ):
        sizes = {"num_classes": num_classes, "embedding_dim": embedding_dim}
        super().__init__(
            (1.0, load_head("arcface", **sizes, margin=margin, scale=scale)),
            (triplet_weight, load_head("triplet", **sizes, margin=triplet_margin)),
        )
