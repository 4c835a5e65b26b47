"""All figures on people unseen in training, nested as in a run's record."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from lossbench.metrics import (
    DEFAULT_FPRS,
    IdentificationRate,
    OpenSet,
    ThresholdTransfer,
    angle_statistics,
    cluster_statistics,
    cmc,
    enrol,
    identification_rate,
    open_set,
    retrieval,
    threshold_transfer,
)

_KMEANS = 20_000_000  # images times people; above this k-means would take minutes, and its figures are null


def unseen_figures(
    query: Tensor, labels: Tensor, distractors: Tensor, calibration: tuple[Tensor, Tensor] | None = None
) -> dict[str, Any]:
    """Return identification rates, gallery search, retrieval, cluster and angle statistics.

    Args:
        query: [Q, D] embeddings of any norm.
        labels: [Q] int64, the person in each image.
        distractors: [M, D] embeddings of people who are not in `query`; M may be 0.
        calibration: [N, D] embeddings and [N] labels of known people, to set thresholds on; None to skip that.
    """
    rates = identification_rate(query, labels, distractors, DEFAULT_FPRS)
    gallery = enrol(query, labels)  # one image per person
    probes = gallery.templates, query[gallery.probes], gallery.people
    searches = {"without_distractors": cmc(*probes, distractors[:0]), "with_distractors": cmc(*probes, distractors)}
    people = len(gallery.templates)
    figures: dict[str, Any] = {
        "identification": _points(rates, ("fpr", "tpr", "threshold", "achieved_fpr")),
        "positives": rates.positives,
        "negatives": rates.negatives,
        "query_negatives": rates.query_negatives,
        "lowest_fpr": 1 / rates.negatives if rates.negatives else None,
        "cmc": {
            name: {"entries": found.entries, **dict(zip(map(str, found.ranks), found.rate.tolist(), strict=True))}
            for name, found in searches.items()
        },
        "open_set": _points(open_set(*probes, distractors), ("far", "rate", "threshold", "achieved_far")),
        "probes": len(gallery.probes),
        "retrieval": asdict(retrieval(query, labels)),
        "clusters": asdict(cluster_statistics(query, labels, kmeans=len(query) * people <= _KMEANS)),
        "query_angles": _without_centers(asdict(angle_statistics(query, labels))),
    }
    if calibration is not None:
        transfer = threshold_transfer(*calibration, query, labels, distractors)
        figures["threshold_transfer"] = _points(transfer, ("fpr", "tpr", "threshold", "achieved_fpr"))
        figures["calibration_negatives"] = transfer.calibration_negatives
    return figures


def _points(found: IdentificationRate | OpenSet | ThresholdTransfer, names: Sequence[str]) -> list[dict[str, float]]:
    columns = torch.stack([getattr(found, name) for name in names], dim=1)
    return [dict(zip(names, point, strict=True)) for point in columns.tolist()]


def _without_centers(angles: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in angles.items() if not name.startswith("w_")}
