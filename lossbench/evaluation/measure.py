"""All figures of one trained model: every image of the split is embedded once, then every metric is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from lossbench.data.faces import Split
from lossbench.evaluation.embed import PairImages, embed, pair_inputs
from lossbench.losses.head import Head
from lossbench.metrics import logit_hits, nearest_mean_hits
from lossbench.results.metric_fields import Metric, shown_in, table_at
from lossbench.results.metric_inputs import Computation, Values


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
    backbone: nn.Module, head: Head, pixels: Tensor, split: Split, fprs: Sequence[float] = ()
) -> dict[str, float | None]:
    """Return the metrics of ``--track`` by key, None where the data does not support one; arguments of `measure`.

    Used after every epoch with ``--track``, to show how much choosing an epoch by them would flatter.
    """
    embeddings = {name: embed(backbone, pixels, part) for name, part in split.parts()}
    values = _values(embeddings, head, pixels.device, split, fprs)
    found = figures_of(values, shown_in("tracked", fprs=values["fprs"]))
    return {key: None if value != value else value for key, value in found.items()}


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
    pixels: Tensor,
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
        pixels: [all images, H, W, 3] uint8 on the backbone's device.
        split: the parts of the data, as rows of `pixels`.
        fprs: the false-positive rates of the operating points, from the largest down; if there are none, the usual ones
            (`metrics.operating_point.usual_fprs`).
        pairs: verification pairs to measure as well.
        flip: add the mirrored image's embedding, for the pairs only.
    """
    embeddings = {name: embed(backbone, pixels, part) for name, part in split.parts()}
    further = pair_inputs(backbone, pairs, flip=flip) if pairs else {}
    values = _values(embeddings, head, pixels.device, split, fprs, **further)
    kept = {name: tensor.cpu() for name, tensor in embeddings.items()}
    return Measured(figures_of(values), kept, resamples_of(values))


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
    return Values(
        {
            **embeddings,
            **{f"{name}_labels": own for name, own in labels.items()},
            **{f"{name}_people": part.people for name, part in split.parts()},
            **{f"{name}_hits": hits(head, embeddings[name], labels[name], *train) for name in ("val", "test")},
            "centers": head.class_centers() if head is not None else None,
            **({"fprs": fprs} if fprs else {}),
            **further,
        }
    )
