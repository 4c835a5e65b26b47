"""From records to tables: every figure as mean and interval over repeats, as numbers and as text."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lossbench.metrics.statistics import Interval, mean_interval
from lossbench.registry import UNTRAINED
from lossbench.results import Record, flat_metrics

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
SPEED = (Figure("images_per_second", "images/s", 0), Figure("seconds", "seconds", 1))
VERIFICATION = (
    Figure("verification_accuracy", "accuracy, 10 folds", 4),
    Figure("verification_standard_error", "its standard error", 4),
    Figure("verification_tar", "TAR @ FAR 0.001"),
    Figure("verification_eer", "EER"),
)
ANGLES = (
    Figure("train_w_ec", "W-EC", 2),
    Figure("train_w_inter", "W-Inter", 2),
    Figure("train_intra", "Intra train", 2),
    Figure("train_inter", "Inter train", 2),
    Figure("query_intra", "Intra query", 2),
    Figure("query_inter", "Inter query", 2),
)


def entrants(records: Iterable[Record]) -> list[str]:
    """Return the entrants in the order they come, `untrained` last: it is what the others are measured against."""
    names = list(dict.fromkeys(record["entrant"] for record in records))
    return sorted(names, key=lambda name: name == UNTRAINED)


def values(records: Iterable[Record], entrant: str, figure: str) -> dict[int, float]:
    """Return one figure of one entrant by repeat; failed runs and unsupported points are NaN."""
    return {r["repeat"]: flat_metrics(r).get(figure, math.nan) for r in records if r["entrant"] == entrant}


def interval(records: Iterable[Record], entrant: str, figure: str) -> Interval:
    """Return mean and 95 % interval over repeats of one figure of one entrant."""
    return mean_interval(list(values(records, entrant, figure).values()))


def text(value: Interval, decimals: int) -> str:
    """Return ``mean ± half-width``; the mean alone for one repeat, a dash for none."""
    if value.count == 0:
        return "–"
    mean = f"{value.mean:.{decimals}f}"
    return mean if math.isnan(value.half_width) else f"{mean} ± {value.half_width:.{decimals}f}"


def text_table(records: Sequence[Record], figures: Sequence[Figure]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows for people: one row per entrant, failures counted and explained."""
    headers = ["loss", "runs", *(figure.title for figure in figures)]
    rows = []
    for name in entrants(records):
        own = [record for record in records if record["entrant"] == name]
        failed = [record for record in own if record["status"] == "failed"]
        count = f"{len(own)}" if not failed else f"{len(own) - len(failed)} of {len(own)}"
        mark = "" if own[0].get("accuracy_by") == "logits" or len(failed) == len(own) else "*"
        rows.append([name + mark, count, *(text(interval(own, name, f.name), f.decimals) for f in figures)])
    return headers, rows


def failures(records: Iterable[Record]) -> list[str]:
    """Return one line per failed run."""
    return [
        f"{r['entrant']}, repeat {r['repeat'] + 1}, failed in epoch {r['epoch']}: {r['reason']}"
        for r in records
        if r["status"] == "failed"
    ]


def number_table(records: Sequence[Record], figures: Sequence[Figure]) -> "pd.DataFrame":
    """Return the same table as numbers: for every figure its mean, half-width of the interval, and count of repeats."""
    import pandas as pd

    rows = []
    for name in entrants(records):
        own = [record for record in records if record["entrant"] == name]
        row: dict[str, object] = {
            "loss": name,
            "runs": len(own),
            "failed": sum(record["status"] == "failed" for record in own),
            "sampler": own[0].get("sampler"),
            "accuracy_by": own[0].get("accuracy_by"),
        }
        for figure in figures:
            found = interval(own, name, figure.name)
            row |= {figure.name: found.mean, f"{figure.name}_ci95": found.half_width, f"{figure.name}_n": found.count}
        rows.append(row)
    return pd.DataFrame(rows)
