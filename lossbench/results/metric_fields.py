"""The figures of a run: what they are called, how they are shown, where they stand in a record."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossbench.results.store import Record

if TYPE_CHECKING:
    import pandas as pd

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lossbench.errors import RunDamaged

if TYPE_CHECKING:
    import pandas as pd


def flat_metrics(record: Record) -> dict[str, float]:
    """Return a record's figures under flat names (``tpr@0.01``, ``query_inter``); NaN where a figure is null.

    Raises:
        InputError: a figure that is no number.
    """
    try:
        return {name: _float(value) for name, value in _flat(record).items()}
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        where = f"{record.get('folder', 'a run')}/run.json"
        raise RunDamaged(f"{where} is damaged ({error})") from error


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _flat(record: Record) -> dict[str, Any]:
    metrics = record.get("metrics") or {}
    flat = {name: metrics[name] for name in metrics if not isinstance(metrics[name], dict | list)}
    for point in metrics.get("identification", ()):
        flat[f"tpr@{point['fpr']:g}"] = point["tpr"]
        flat[f"achieved_fpr@{point['fpr']:g}"] = point["achieved_fpr"]
    for point in metrics.get("threshold_transfer", ()):
        flat[f"transfer_fpr@{point['fpr']:g}"] = point["achieved_fpr"]
        flat[f"transfer_tpr@{point['fpr']:g}"] = point["tpr"]
    for point in metrics.get("open_set", ()):
        flat[f"dir@{point['far']:g}"] = point["rate"]
    for search, rates in metrics.get("cmc", {}).items():
        flat.update({f"cmc{rank}_{search}": value for rank, value in rates.items() if rank != "entries"})
    for group in ("retrieval", "clusters"):
        flat.update(metrics.get(group, {}))
    flat.update({f"verification_{name}": value for name, value in _verification(metrics).items()})
    for people in ("train", "query"):
        flat.update({f"{people}_{name}": value for name, value in (metrics.get(f"{people}_angles") or {}).items()})
    flat.update(record.get("timings") or {})
    return flat


def _verification(metrics: Mapping[str, Any]) -> dict[str, float]:
    found = metrics.get("verification") or {}
    return {
        name: found[name] for name in ("accuracy", "standard_error", "threshold", "tar", "eer", "auc") if name in found
    }


def runs_frame(records: Iterable[Record]) -> "pd.DataFrame":
    """Return one row per run: entrant, repeat, fold, status, reason and every figure of `flat_metrics`."""
    import pandas as pd

    keys = ("entrant", "repeat", "fold", "status", "reason", "epoch", "sampler", "accuracy_by")
    return pd.DataFrame([{**{key: record.get(key) for key in keys}, **flat_metrics(record)} for record in records])


@dataclass(frozen=True)
class Figure:
    """A figure of a run: its flat name in the record, its column title, and how many decimals a reader needs."""

    name: str
    title: str
    decimals: int = 3


HEADLINE = (
    Figure("test_accuracy", "accuracy"),
    Figure("test_accuracy_ncm", "accuracy (class means)"),
    Figure("tpr@0.1", "ID rate @ FPR 0.1"),
    Figure("tpr@0.05", "@ 0.05"),
    Figure("tpr@0.01", "@ 0.01"),
    Figure("tpr@0.001", "@ 0.001"),
)


#: The figures that verdicts and gains are told of in a report, with titles that stand alone; the tables have all.
TELLING = {
    "test_accuracy_ncm": "accuracy (class means)",
    "tpr@0.1": "ID rate @ FPR 0.1",
    "tpr@0.01": "ID rate @ FPR 0.01",
}


SPEED = (Figure("images_per_second", "images/s", 0), Figure("seconds", "seconds", 1))


VERIFICATION = (
    Figure("verification_accuracy", "accuracy over folds", 4),
    Figure("verification_standard_error", "its standard error", 4),
    Figure("verification_tar", "TAR @ FAR 0.001"),
    Figure("verification_eer", "EER"),
    Figure("verification_auc", "AUC", 4),
)


GALLERY = (
    Figure("cmc1_without_distractors", "rank 1"),
    Figure("cmc5_without_distractors", "rank 5"),
    Figure("cmc10_without_distractors", "rank 10"),
    Figure("cmc1_with_distractors", "rank 1, distractors"),
    Figure("cmc5_with_distractors", "rank 5, distractors"),
    Figure("cmc10_with_distractors", "rank 10, distractors"),
    Figure("dir@0.1", "DIR @ FAR 0.1"),
    Figure("dir@0.01", "DIR @ FAR 0.01"),
)


RETRIEVAL = (
    Figure("precision_at_1", "precision@1"),
    Figure("r_precision", "R-precision"),
    Figure("map_at_r", "MAP@R"),
)


CLUSTERS = (
    Figure("silhouette", "silhouette"),
    Figure("nmi", "NMI"),
    Figure("ami", "AMI"),
    Figure("alignment", "alignment"),
    Figure("uniformity", "uniformity", 2),
    Figure("effective_rank", "effective rank", 1),
)


TRANSFER = (
    Figure("transfer_fpr@0.1", "FPR 0.1 becomes", 4),
    Figure("transfer_fpr@0.05", "0.05 becomes", 4),
    Figure("transfer_fpr@0.01", "0.01 becomes", 4),
    Figure("transfer_fpr@0.001", "0.001 becomes", 4),
)


ANGLES = (
    Figure("train_w_ec", "W-EC", 2),
    Figure("train_w_inter", "W-Inter", 2),
    Figure("train_intra", "Intra train", 2),
    Figure("train_inter", "Inter train", 2),
    Figure("query_intra", "Intra query", 2),
    Figure("query_inter", "Inter query", 2),
)
