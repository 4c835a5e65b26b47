"""All figures of one trained model: every image of the split is embedded once, then every metric is computed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lossbench.data.faces import Split
from lossbench.data.images.streaming import StoredPixels
from lossbench.data.tree import CLOSED, PARTS
from lossbench.evaluation.embed import PairImages, embed, pair_inputs
from lossbench.losses.head import Head
from lossbench.metrics import logit_hits, nearest_mean_hits
from lossbench.metrics.bootstrap import replicates_for
from lossbench.metrics.operating_point import DEFAULT_FPRS
from lossbench.results.metric_fields import Metric, shown_in, table_at
from lossbench.results.metric_inputs import Computation, Values, needs


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


def figures_of(values: Values, metrics: Sequence[Metric] | None = None) -> dict[str, float]:
    """Return metrics by key, in the order of the table; NaN where the data does not support one.

    Args:
        values: the available inputs; a metric that needs others is left out.
        metrics: the whole table if None.
    """
    return {
        metric.key: values.of(Computation(metric.function, metric.inputs))
        for metric in (_table(values) if metrics is None else metrics)
        if metric.function is not None and values.can(metric.inputs)
    }


def _of_unseen_people(fprs: Sequence[float], replicates: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the figures and resamples of unseen people where there are none: NaN, and counts of 0."""
    metrics = [metric for metric in table_at(fprs) if metric.function is not None and needs(metric.inputs, "query")]
    figures = {metric.key: 0 if metric.unit == "count" else math.nan for metric in metrics}
    return figures, {m.key: np.full(replicates, math.nan) for m in metrics if m.resamples is not None}


def resamples_of(values: Values) -> dict[str, npt.NDArray[np.float64]]:
    """Return, by key, the values [B] of every resampled metric in the resamples of people."""
    return {
        metric.key: values.of(metric.resamples).numpy()
        for metric in _table(values)
        if metric.resamples is not None and values.can(metric.resamples.inputs)
    }


def _table(values: Values) -> tuple[Metric, ...]:
    return table_at(values["fprs"] if values.can(("fprs",)) else ())


def tracked_figures(
    backbone: nn.Module, head: Head, pixels: StoredPixels, split: Split, fprs: Sequence[float] = ()
) -> dict[str, float | None]:
    """Return the metrics of ``--track`` by key, None where the data does not support one; arguments of `measure`.

    Used after every epoch with ``--track``, to show how much choosing an epoch by them would flatter.
    """
    embeddings = _embeddings(backbone, pixels, split)
    values = _values(embeddings, head, pixels.device, split, fprs)
    found = figures_of(values, shown_in("tracked", fprs=values["fprs"] if split.query.rows else ()))
    return {key: None if value != value else value for key, value in found.items()}


def _embeddings(backbone: nn.Module, pixels: StoredPixels, split: Split) -> dict[str, Tensor]:
    """Return the embeddings [N, D] of every part; an empty one is not passed through the network."""
    found = {name: embed(backbone, pixels, part) for name, part in split.parts() if part.rows}
    return {name: found.get(name, found["train"][:0]) for name, _ in split.parts()}


@dataclass(frozen=True)
class Measured:
    """The figures of one model, by key, with the embeddings and resamples behind them.

    `embeddings` by part: [N, D] on the CPU. `resamples` by key: [B], see metrics.bootstrap.
    """

    figures: dict[str, Any]
    embeddings: dict[str, Tensor]
    resamples: dict[str, npt.NDArray[np.float64]]


def measure(
    backbone: nn.Module,
    head: Head | None,
    pixels: StoredPixels,
    split: Split,
    *,
    fprs: Sequence[float] = (),
    pairs: PairImages | None = None,
    flip: bool = False,
) -> Measured:
    """Measure a model on every part of its split: the only time that test, query and distractors are read.

    Args:
        backbone: images [B, 3, H, W] in 0..1 -> [B, D].
        head: None for a backbone that was not trained.
        pixels: [all images, H, W, 3] uint8 for the backbone's device.
        split: the parts of the data, as rows of `pixels`.
        fprs: the false-positive rates of the operating points, from the largest down; if there are none, the usual ones
            (`metrics.operating_point.usual_fprs`).
        pairs: verification pairs to measure as well.
        flip: add the mirrored image's embedding, for the pairs only.
    """
    embeddings = _embeddings(backbone, pixels, split)
    further = pair_inputs(backbone, pairs, flip=flip) if pairs else {}
    values = _values(embeddings, head, pixels.device, split, fprs, **further)
    kept = {name: tensor.cpu() for name, tensor in embeddings.items()}
    figures, resamples = figures_of(values), resamples_of(values)
    if not split.query.rows:
        unmeasured, unsampled = _of_unseen_people(fprs or DEFAULT_FPRS, values["replicates"])
        figures, resamples = figures | unmeasured, resamples | unsampled
    return Measured(figures, kept, resamples)


def _values(
    embeddings: dict[str, Tensor],
    head: Head | None,
    device: torch.device,
    split: Split,
    fprs: Sequence[float],
    **further: Any,
) -> Values:
    labels = {name: torch.tensor(part.labels, device=device) for name, part in split.parts()}
    train = embeddings["train"], labels["train"]
    known = PARTS if split.query.rows else CLOSED  # figures of empty parts cannot be computed
    if not split.query.rows:
        further["replicates"] = replicates_for(0, 0)
    return Values(
        {
            **{name: embeddings[name] for name in known},
            **{f"{name}_labels": labels[name] for name in known},
            **{f"{name}_people": part.people for name, part in split.parts() if name in known},
            **{f"{name}_hits": hits(head, embeddings[name], labels[name], *train) for name in ("val", "test")},
            "centers": head.class_centers() if head is not None else None,
            **({"fprs": fprs} if fprs else {}),
            **further,
        }
    )
