"""Embeddings of images, and the figures of verification pairs."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lossbench.data.batches import to_images
from lossbench.data.faces import Part
from lossbench.data.images.streaming import StoredPixels, StreamedPixels
from lossbench.data.pairs import PairSet
from lossbench.metrics import pair_scores
from lossbench.utils.threads import in_threads


@dataclass(frozen=True)
class PairImages:
    """Verification pairs with the pixels of their images: [M, H, W, 3] uint8, for the device."""

    pairs: PairSet
    pixels: StoredPixels


_BATCH = 128  # images per batch on a CPU
_AT_A_TIME = 8  # batches in parallel on a CPU: each holds its activations in memory


def pair_inputs(backbone: nn.Module, images: PairImages, *, flip: bool) -> dict[str, Tensor]:
    """Return what the verification protocol is computed from: ``pair_scores``, ``pair_same``, ``pair_folds``, each [P].

    Args:
        backbone: images [B, 3, H, W] in 0..1 -> [B, D].
        images: the pairs and their pixels.
        flip: add the embedding of the mirrored image before normalising, as InsightFace does.
    """
    everything = Part(tuple(range(len(images.pixels))), (0,) * len(images.pixels), ("",))
    embeddings = embed(backbone, images.pixels, everything)
    if flip:
        embeddings = embeddings + embed(backbone, images.pixels, everything, flip=True)
    pairs = images.pairs
    scores = pair_scores(embeddings[list(pairs.a)], embeddings[list(pairs.b)])
    return {"pair_scores": scores, "pair_same": torch.tensor(pairs.same), "pair_folds": torch.tensor(pairs.folds)}


def embed(backbone: nn.Module, pixels: StoredPixels, part: Part, *, flip: bool = False) -> Tensor:
    """Return the embeddings [N, D] (float32, not normalised) of a part's images, the backbone in evaluation mode.

    On a CPU, several batches run in parallel, one thread each, which is faster than one batch on all threads. The
    backbone must therefore not change its own state in evaluation mode.

    Args:
        backbone: images [B, 3, H, W] in 0..1 -> [B, D].
        pixels: [all images, H, W, 3] uint8 for the backbone's device.
        part: which rows of `pixels`.
        flip: embed the mirrored images.
    """
    size, at_a_time = batching(len(part), pixels)
    first = min(part.rows, default=0)
    in_line = part.rows == tuple(range(first, first + len(part)))  # contiguous rows are sliced, not gathered
    rows = torch.tensor(part.rows, dtype=torch.int64)
    starts = range(0, max(len(part), 1), size)

    def forward(batch: Tensor) -> Tensor:
        with torch.inference_mode():  # applies to the current thread only
            embeddings: Tensor = backbone(to_images(batch.flip(2) if flip else batch)).float()
            return embeddings

    def embeddings_of(pixels: StoredPixels) -> list[Tensor]:
        if isinstance(pixels, StreamedPixels):
            return [forward(batch) for batch in pixels.batches([rows[start : start + size] for start in starts])]
        there = rows.to(pixels.device)

        def forward_from(start: int) -> Tensor:
            stop = min(start + size, len(part))
            return forward(
                pixels[first + start : first + stop] if in_line else pixels.index_select(0, there[start:stop])
            )

        return list(in_threads(forward_from, starts, at_a_time))

    modes = [(module, module.training) for module in backbone.modules()]
    backbone.eval()
    try:
        found = embeddings_of(pixels)
    finally:
        for module, training in modes:  # modules may differ in mode: a plugin may have frozen some
            module.training = training
    return torch.cat(found)  # outside inference mode: an inference tensor cannot be used where gradients are needed


def batching(count: int, pixels: StoredPixels) -> tuple[int, int]:
    """Return the batch size that `embed` uses for `count` images, and how many batches it runs in parallel.

    On a GPU: 256, one batch at a time. On a CPU: 64 to 128 (fewer above 112 pixels), one batch per thread, sized so
    that all threads finish together; with too few images for that, one batch at a time.
    """
    if pixels.device.type != "cpu":
        return 256, 1
    most = max(1, min(_BATCH, _BATCH * 112**2 // (pixels.shape[1] * pixels.shape[2])))
    threads = torch.get_num_threads()
    at_a_time = max(1, min(threads // math.ceil(threads / _AT_A_TIME), 2 * count // most))
    rounds = math.ceil(count / (most * at_a_time))
    return max(1, math.ceil(count / max(1, rounds * at_a_time))), at_a_time
