"""What figures with little room show: one operating point, the losses by their identification rate, one repeat."""

import math
from collections.abc import Sequence

from lossbench.losses.plugin import UNTRAINED
from lossbench.results.arrays import without_embeddings
from lossbench.results.metric_fields import HEADLINE, at, fewest_above, metric
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.utils.text import listed

Run = tuple[str, Record]  #: an entrant's name, and its run


def main_point(study: Study) -> float | None:
    """Return the lowest false-positive rate of the headline that ten negatives or more decide in every finished run.

    Where all are thinner, the highest; None where no rate is supported.
    """
    points = [fpr for fpr in study.fprs[:HEADLINE] if any(not math.isnan(v) for v in _rates(study, fpr).values())]
    thick = [fpr for fpr in points if fewest_above(metric(at("tpr", fpr)), study.records) is None]
    return min(thick) if thick else max(points, default=None)


def by_rate(study: Study, fpr: float | None) -> list[str]:
    """Return the trained losses by mean identification rate at a false-positive rate, best first; those without, last.

    Args:
        study: the runs.
        fpr: None leaves them in their order.
    """
    rates = {} if fpr is None else _rates(study, fpr)

    def behind(name: str) -> tuple[bool, float]:
        rate = rates.get(name, math.nan)
        return math.isnan(rate), 0.0 if math.isnan(rate) else -rate

    return sorted(study.trained, key=behind)


def first_runs(records: Sequence[Record]) -> list[Run]:
    """Return the finished run with embeddings of every entrant in the first repeat that most of them have finished.

    Losses are compared image by image there, so that one repeat is shown.
    """
    lacking = {record["folder"] for record in without_embeddings(records)}
    there = [r for r in records if r["status"] == "finished" and r["folder"] not in lacking]
    counts = {record["repeat"]: sum(r["repeat"] == record["repeat"] for r in there) for record in there}
    if not counts:
        return []
    repeat = min(counts, key=lambda number: (-counts[number], number))
    return [(r["entrant"], r) for r in there if r["repeat"] == repeat]


def for_panels(study: Study, runs: Sequence[Run], most: int = 8) -> tuple[list[Run], str]:
    """Return the runs that a figure with a panel per loss shows, `untrained` last, and a sentence on what is left out.

    Up to `most` panels, all. Beyond, the best losses and the two worst: readers compare the ends of the table.
    """
    if len(runs) <= most:
        return sorted(runs, key=lambda run: run[0] == UNTRAINED), ""
    own, fpr = dict(runs), main_point(study)
    order = [name for name in by_rate(study, fpr) if name in own]
    last = [UNTRAINED] if UNTRAINED in own else []
    shown = [*order[: most - 2 - len(last)], *order[-2:], *last]
    left_out = len(own) - len(shown)
    rate = f" by identification rate at FPR {fpr:g}" if fpr is not None else ""
    kinds = [
        f"the {len(shown) - 2 - len(last)} best losses{rate}",
        "the two worst",
        *(["the untrained backbone"] * len(last)),
    ]
    said = f"Shown are {listed(kinds)}; the other {left_out} are left out."
    return [(name, own[name]) for name in shown], said


def _rates(study: Study, fpr: float) -> dict[str, float]:
    return {name: study.mean(name, at("tpr", fpr)) for name in study.trained}
