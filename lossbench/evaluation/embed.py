"""Images through a backbone: the embeddings of a part, and of verification pairs."""

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.data.batches import to_images
from lossbench.data.faces import Part
from lossbench.data.pairs import PairSet
from lossbench.metrics import (
    pair_scores,
    verification,
)
from lossbench.utils.threads import in_threads


@dataclass(frozen=True)
class PairImages:
    """Verification pairs with the pixels [M, H, W, 3] uint8, on the device, of the images they are about."""

    pairs: PairSet
    pixels: Tensor


_BATCH = 128  # images on a CPU


_AT_A_TIME = 8  # batches on a CPU, each in memory with what the layers make of it


def verify_pairs(backbone: nn.Module, images: PairImages, *, flip: bool) -> dict[str, Any]:
    """Return the figures of the verification protocol as in the record of a run.

    Args:
        backbone: images [B, 3, H, W] in 0..1 -> [B, D].
        images: the pairs.
        flip: add the embedding of the mirrored image before normalising, as InsightFace does.
    """
    everything = Part(tuple(range(len(images.pixels))), (0,) * len(images.pixels), ("",))
    embeddings = embed(backbone, images.pixels, everything)
    if flip:
        embeddings = embeddings + embed(backbone, images.pixels.flip(2), everything)
    pairs = images.pairs
    scores = pair_scores(embeddings[list(pairs.a)], embeddings[list(pairs.b)])
    return {**asdict(verification(scores, torch.tensor(pairs.same), torch.tensor(pairs.folds))), "flip": flip}


def embed(backbone: nn.Module, pixels: Tensor, part: Part) -> Tensor:
    """Return the embeddings [N, D] (float32, not normalised) of a part's images, the backbone in evaluation mode.

    On a CPU several batches are worked on at a time, each by a thread of its own, which is faster than all threads
    on one batch: the backbone must not change anything of its own in evaluation mode.

    Args:
        backbone: images [B, 3, H, W] in 0..1 -> [B, D].
        pixels: [all images, H, W, 3] uint8 on the backbone's device.
        part: which rows.
    """
    size, at_a_time = batching(len(part), pixels)
    first = min(part.rows, default=0)
    in_line = part.rows == tuple(range(first, first + len(part)))  # neighbours need no gathering
    rows = torch.tensor(part.rows, dtype=torch.int64, device=pixels.device)

    def forward(start: int) -> Tensor:
        stop = min(start + size, len(part))
        batch = pixels[first + start : first + stop] if in_line else pixels.index_select(0, rows[start:stop])
        with torch.inference_mode():  # of this thread alone
            embeddings: Tensor = backbone(to_images(batch)).float()
            return embeddings

    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        found = list(in_threads(forward, range(0, max(len(part), 1), size), at_a_time))
    finally:
        for module, training in modes:  # not all have the backbone's: a plugin may freeze some
            module.training = training
    return torch.cat(found)  # outside: a tensor of inference mode is barred from what needs gradients


def batching(count: int, pixels: Tensor) -> tuple[int, int]:
    """Return how many of `count` images `embed` passes forward together, and how many such batches at a time.

    On a GPU 256, one batch at a time. On a CPU 64 to 128, fewer above 112 pixels, a batch a thread, so that all
    threads end together; one batch at a time, of all that is left, where there are too few images for that.
    """
    if pixels.device.type != "cpu":
        return 256, 1
    most = max(1, min(_BATCH, _BATCH * 112**2 // (pixels.shape[1] * pixels.shape[2])))
    threads = torch.get_num_threads()
    at_a_time = max(1, min(threads // math.ceil(threads / _AT_A_TIME), 2 * count // most))
    rounds = math.ceil(count / (most * at_a_time))
    return max(1, math.ceil(count / max(1, rounds * at_a_time))), at_a_time
