"""All figures of one trained model: embeds every image of the split once, then measures."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lossbench.data.batches import to_images
from lossbench.data.faces import Part, Split
from lossbench.data.pairs import PairSet
from lossbench.losses.head import Head
from lossbench.metrics import (
    DEFAULT_FPRS,
    angle_statistics,
    effective_rank,
    identification_rate,
    logit_hits,
    nearest_mean_hits,
    pair_scores,
    verification,
)
from lossbench.metrics.bootstrap import bootstrap_identification, bootstrap_share, multiplicities, replicates_for
from lossbench.unseen import unseen_figures
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


def hits(head: Head | None, embeddings: Tensor, labels: Tensor, train: Tensor, train_labels: Tensor) -> Tensor:
    """Return which images are recognised [N] (bool): by margin-free logits, or by nearest class mean without them.

    Raises:
        ValueError: the head's logits are not [N, C].
    """
    with torch.no_grad():
        logits = head.eval().logits(embeddings) if head is not None else None
    if logits is None:
        return nearest_mean_hits(embeddings, labels, train, train_labels)
    classes = int(train_labels.max()) + 1
    if logits.shape != (len(embeddings), classes):
        raise ValueError(
            f"logits have shape {tuple(logits.shape)}, not [{len(embeddings)}, {classes}] (images, classes)"
        )
    return logit_hits(logits, labels)


def share(found: Tensor) -> float:
    """Return the share of true entries of `found` [N] (bool); NaN of none."""
    return found.to(torch.float64).mean().item()


def tracked_figures(backbone: nn.Module, head: Head, pixels: Tensor, split: Split) -> dict[str, float | None]:
    """Return test accuracy and identification rates under their flat names, null where the data does not support one.

    They are read after every epoch on request, to show what choosing an epoch by them would pretend.
    """
    parts = {name: embed(backbone, pixels, part) for name, part in split.parts()}
    labels = {name: torch.tensor(part.labels, device=pixels.device) for name, part in split.parts()}
    test = hits(head, parts["test"], labels["test"], parts["train"], labels["train"])
    rates = identification_rate(parts["query"], labels["query"], parts["distractors"], DEFAULT_FPRS)
    found = zip(DEFAULT_FPRS, rates.tpr.tolist(), strict=True)
    named = {f"tpr@{fpr:g}": None if math.isnan(tpr) else tpr for fpr, tpr in found}
    return {"test_accuracy": share(test), **named}


@dataclass(frozen=True)
class Measured:
    """The figures of one model, nested as in the record of a run; what they are of; and what resampling gives.

    `embeddings` by part, [N, D] on the CPU. `resamples` by flat name of a headline figure: [B], see metrics.bootstrap.
    """

    figures: dict[str, Any]
    embeddings: dict[str, Tensor]
    resamples: dict[str, npt.NDArray[np.float64]]


def measure(backbone: nn.Module, head: Head | None, pixels: Tensor, split: Split) -> Measured:
    """Measure a model on every part of its split; this is the one time that test, query and distractors are read."""
    embeddings = {name: embed(backbone, pixels, part) for name, part in split.parts()}
    labels = {name: torch.tensor(part.labels, device=pixels.device) for name, part in split.parts()}
    train = embeddings["train"], labels["train"]
    centers = head.class_centers() if head is not None else None
    recognised = {
        "test_accuracy": hits(head, embeddings["test"], labels["test"], *train),
        "test_accuracy_ncm": nearest_mean_hits(embeddings["test"], labels["test"], *train),
    }
    figures = {
        **{name: share(found) for name, found in recognised.items()},
        "val_accuracy": share(hits(head, embeddings["val"], labels["val"], *train)),
        "train_angles": asdict(angle_statistics(*train, centers)),
        "train_effective_rank": effective_rank(embeddings["train"]),
        **unseen_figures(
            embeddings["query"], labels["query"], embeddings["distractors"], (embeddings["val"], labels["val"])
        ),
    }
    embeddings = {name: tensor.cpu() for name, tensor in embeddings.items()}
    return Measured(figures, embeddings, _resamples(split, embeddings, recognised))


def _resamples(
    split: Split, embeddings: Mapping[str, Tensor], recognised: Mapping[str, Tensor]
) -> dict[str, npt.NDArray[np.float64]]:
    """Resample the people of every headline figure; the same people are drawn in the same way for every entrant."""
    replicates = replicates_for(len(split.query), len(split.distractors))
    drawn = {name: multiplicities(part.people, replicates) for name, part in split.parts()}
    own = {name: torch.tensor(part.labels) for name, part in split.parts()}
    found = {name: bootstrap_share(hit.cpu(), own["test"], drawn["test"]) for name, hit in recognised.items()}
    rates = bootstrap_identification(
        embeddings["query"],
        own["query"],
        embeddings["distractors"],
        own["distractors"],
        drawn["query"],
        drawn["distractors"],
        DEFAULT_FPRS,
    )
    found |= {f"tpr@{fpr:g}": rates[:, i] for i, fpr in enumerate(DEFAULT_FPRS)}
    return {name: tensor.numpy() for name, tensor in found.items()}
