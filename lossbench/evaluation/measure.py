"""All figures of one trained model: every image of the split is embedded once, then measured."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lossbench.data.faces import Split
from lossbench.evaluation.embed import embed
from lossbench.evaluation.unseen_people import unseen_figures
from lossbench.losses.head import Head
from lossbench.metrics import (
    DEFAULT_FPRS,
    angle_statistics,
    effective_rank,
    identification_rate,
    logit_hits,
    nearest_mean_hits,
)
from lossbench.metrics.bootstrap import bootstrap_identification, bootstrap_share, multiplicities, replicates_for


def hits(head: Head | None, embeddings: Tensor, labels: Tensor, train: Tensor, train_labels: Tensor) -> Tensor:
    """Return which images are recognised [N] (bool): by margin-free logits, or by nearest class mean if there are none.

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
    """Return the share of true entries in `found` [N] (bool); NaN if it is empty."""
    return found.to(torch.float64).mean().item()


def tracked_figures(backbone: nn.Module, head: Head, pixels: Tensor, split: Split) -> dict[str, float | None]:
    """Return test accuracy and identification rates by flat name, None where the data does not support one.

    Used after every epoch with ``--track``, to show how much choosing an epoch by them would flatter.
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
    """The figures of one model, nested as in a run's record, with the embeddings and resamples behind them.

    `embeddings` by part: [N, D] on the CPU. `resamples` by flat name of a headline figure: [B], see metrics.bootstrap.
    """

    figures: dict[str, Any]
    embeddings: dict[str, Tensor]
    resamples: dict[str, npt.NDArray[np.float64]]


def measure(backbone: nn.Module, head: Head | None, pixels: Tensor, split: Split) -> Measured:
    """Measure a model on every part of its split: the only time that test, query and distractors are read."""
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
    """Resample the people behind every headline figure, with the same draws for every entrant."""
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
