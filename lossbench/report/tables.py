"""From a study to tables: every figure as mean and 95 % interval, as text and as numbers."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lossbench.metrics.operating_point import ENOUGH
from lossbench.metrics.uncertainty import Estimate
from lossbench.results.metric_fields import Metric, fewest_above
from lossbench.results.store import Record
from lossbench.results.study import Study

if TYPE_CHECKING:
    import pandas as pd


_THIN = "†"
MEANING = "ID rate @ FPR (TAR @ FAR): share of same-person pairs of unseen people accepted at this false-positive rate"


def text(value: Estimate, decimals: int, limits: tuple[float, float] = (-math.inf, math.inf)) -> str:
    """Return ``mean ± half-width``, or ``mean [low, 1.000]`` where the interval ends at a limit of the figure.

    The mean alone if it has no interval, a dash if there is no value.
    """
    if value.count == 0:
        return "–"
    return with_interval(value.mean, value.half_width, decimals, limits)


def with_interval(mean: float, half: float, decimals: int, limits: tuple[float, float]) -> str:
    """Return what `text` says of a value, given its mean and the half-width of its interval, NaN where it has none."""
    if math.isnan(half):
        return f"{mean:z.{decimals}f}"  # z: no negative zero
    low, high = max(limits[0], mean - half), min(limits[1], mean + half)
    if low in limits or high in limits:
        return f"{mean:z.{decimals}f} [{low:z.{decimals}f}, {high:z.{decimals}f}]"
    return f"{mean:z.{decimals}f} ± {half:.{decimals}f}"


def text_table(study: Study, figures: Sequence[Metric]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows to print: one row per entrant, marked * if it has no class scores.

    Means are over the finished runs; the column of runs says ``3 of 4 (75 %)`` if others failed. Thin operating points
    are marked, see `thin_line`.
    """
    headers = ["loss", "runs", "batches", *(heading(figure, study.records) for figure in figures)]
    rows = []
    for name in study.entrants:
        own = study.of_entrant(name)
        finished = [record for record in own if record["status"] == "finished"]
        share = f"{len(finished)} of {len(own)} ({len(finished) / len(own):.0%})".replace("%", " %")
        count = f"{len(own)}" if len(finished) == len(own) else share
        mark = "*" if finished and finished[0]["accuracy_by"] != "logits" else ""
        batches = next((record["sampler"] for record in finished if record.get("sampler")), "–")
        estimates = (text(study.estimate(name, f.key), f.digits, f.limits) for f in figures)
        rows.append([name + mark, count, batches, *estimates])
    return headers, rows


def one_repeat_line(study: Study) -> str:
    """Return why the figures of a single repeat have no interval; empty where there are more repeats."""
    if study.repeats > 1:
        return ""
    return "There is one repeat, so no figure has an interval and no two losses are compared: another seed may differ."


def heading(figure: Metric, records: Iterable[Mapping[str, Any]]) -> str:
    """Return the head of a figure's column, marked where fewer than ten negatives lie above its threshold."""
    return figure.column + mark(figure, records)


def mark(figure: Metric, records: Iterable[Mapping[str, Any]]) -> str:
    """Return the mark of a thin operating point, or nothing."""
    return "" if fewest_above(figure, records) is None else f" {_THIN}"


def thin_line(figures: Iterable[Metric], records: Sequence[Mapping[str, Any]]) -> str:
    """Return a line that explains the mark of `heading`; empty where no figure has it."""
    marked = [(figure, fewest) for figure in figures if (fewest := fewest_above(figure, records)) is not None]
    if not marked:
        return ""
    named = ", ".join(f"{figure.title} ({fewest})" for figure, fewest in marked)
    return f"{_THIN} thin: fewer than {ENOUGH} negatives lie above the threshold, so few pairs decide it: {named}"


def failures(records: Iterable[Record]) -> list[str]:
    """Return one line per failed run."""
    return [
        f"{r['entrant']}, repeat {r['repeat'] + 1}, failed in epoch {r['epoch']}: {r['reason']}"
        for r in records
        if r["status"] == "failed"
    ]


def number_table(study: Study, figures: Sequence[Metric]) -> "pd.DataFrame":
    """Return the same table as numbers: the mean of every figure, its 95 % interval, its number of repeats."""
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
            low, high = found.interval(*figure.limits)
            row |= {figure.key: found.mean, f"{figure.key}_low": low, f"{figure.key}_high": high}
            row[f"{figure.key}_n"] = found.count
        rows.append(row)
    return pd.DataFrame(rows)
