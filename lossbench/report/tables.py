"""From a study to tables: every figure as mean and 95 % interval, as text and as numbers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossbench.metrics.uncertainty import Estimate
from lossbench.report.study import Study
from lossbench.results import Record

if TYPE_CHECKING:
    import pandas as pd


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


def text(value: Estimate, decimals: int) -> str:
    """Return ``mean ± half-width``; the mean alone where nothing is known of its error, a dash for nothing."""
    if value.count == 0:
        return "–"
    mean = f"{value.mean:.{decimals}f}"
    return mean if math.isnan(value.half_width) else f"{mean} ± {value.half_width:.{decimals}f}"


def text_table(study: Study, figures: Sequence[Figure]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows for people: one row per entrant, a mark where there are no scores.

    The runs are those that the means are of; ``3 of 4 (75 %)`` where others have failed.
    """
    headers = ["loss", "runs", "batches", *(figure.title for figure in figures)]
    rows = []
    for name in study.entrants:
        own = study.of_entrant(name)
        finished = [record for record in own if record["status"] == "finished"]
        share = f"{len(finished)} of {len(own)} ({len(finished) / len(own):.0%})".replace("%", " %")
        count = f"{len(own)}" if len(finished) == len(own) else share
        mark = "*" if finished and finished[0]["accuracy_by"] != "logits" else ""
        batches = next((record["sampler"] for record in finished if record.get("sampler")), "–")
        estimates = (text(study.estimate(name, f.name), f.decimals) for f in figures)
        rows.append([name + mark, count, batches, *estimates])
    return headers, rows


def failures(records: Iterable[Record]) -> list[str]:
    """Return one line per failed run."""
    return [
        f"{r['entrant']}, repeat {r['repeat'] + 1}, failed in epoch {r['epoch']}: {r['reason']}"
        for r in records
        if r["status"] == "failed"
    ]


def number_table(study: Study, figures: Sequence[Figure]) -> "pd.DataFrame":
    """Return the same table as numbers: for every figure its mean, half-width of the interval, and count of repeats."""
    import pandas as pd

    rows = []
    for name in study.entrants:
        own = study.of_entrant(name)
        failed = sum(record["status"] == "failed" for record in own)
        row: dict[str, object] = {
            "loss": name,
            "runs": len(own),
            "failed": failed,
            "survival": 1 - failed / len(own),
            "sampler": next((record["sampler"] for record in own if record.get("sampler")), None),
            "accuracy_by": next((record["accuracy_by"] for record in own if record.get("accuracy_by")), None),
        }
        for figure in figures:
            found = study.estimate(name, figure.name)
            row |= {figure.name: found.mean, f"{figure.name}_ci95": found.half_width, f"{figure.name}_n": found.count}
        rows.append(row)
    return pd.DataFrame(rows)
