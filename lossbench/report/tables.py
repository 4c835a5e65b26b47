"""From a study to tables: every figure as mean and 95 % interval, as text and as numbers."""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lossbench.metrics.uncertainty import Estimate
from lossbench.results.metric_fields import Metric
from lossbench.results.store import Record
from lossbench.results.study import Study

if TYPE_CHECKING:
    import pandas as pd


def text(value: Estimate, decimals: int) -> str:
    """Return ``mean ± half-width``; the mean alone if it has no interval, a dash if there is no value."""
    if value.count == 0:
        return "–"
    mean = f"{value.mean:.{decimals}f}"
    return mean if math.isnan(value.half_width) else f"{mean} ± {value.half_width:.{decimals}f}"


def text_table(study: Study, figures: Sequence[Metric]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows to print: one row per entrant, marked * if it has no class scores.

    Means are over the finished runs; the column of runs says ``3 of 4 (75 %)`` if others failed.
    """
    headers = ["loss", "runs", "batches", *(figure.column for figure in figures)]
    rows = []
    for name in study.entrants:
        own = study.of_entrant(name)
        finished = [record for record in own if record["status"] == "finished"]
        share = f"{len(finished)} of {len(own)} ({len(finished) / len(own):.0%})".replace("%", " %")
        count = f"{len(own)}" if len(finished) == len(own) else share
        mark = "*" if finished and finished[0]["accuracy_by"] != "logits" else ""
        batches = next((record["sampler"] for record in finished if record.get("sampler")), "–")
        estimates = (text(study.estimate(name, f.key), f.digits) for f in figures)
        rows.append([name + mark, count, batches, *estimates])
    return headers, rows


def failures(records: Iterable[Record]) -> list[str]:
    """Return one line per failed run."""
    return [
        f"{r['entrant']}, repeat {r['repeat'] + 1}, failed in epoch {r['epoch']}: {r['reason']}"
        for r in records
        if r["status"] == "failed"
    ]


def number_table(study: Study, figures: Sequence[Metric]) -> "pd.DataFrame":
    """Return the same table as numbers: the mean of every figure, half-width of its interval, number of repeats."""
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
            found = study.estimate(name, figure.key)
            row |= {figure.key: found.mean, f"{figure.key}_ci95": found.half_width, f"{figure.key}_n": found.count}
        rows.append(row)
    return pd.DataFrame(rows)
