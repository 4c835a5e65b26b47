"""The table of verdicts as text: each pair at each figure, and what would settle it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lossbench.report.gains import signed
from lossbench.report.tables import mark
from lossbench.results.verdicts import Verdict


def verdict_text(found: Sequence[Verdict], records: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Return headers and rows to print: one row per pair and figure; thin operating points are marked."""
    headers = ["figure", "pair", "difference", "seeds", "people", "p (adjusted)", "verdict", "detectable", "repeats"]
    return headers, [_verdict_row(v, v.figure.title + mark(v.figure, records)) for v in found]


def _verdict_row(verdict: Verdict, title: str) -> list[str]:
    d = verdict.difference
    return [
        title,
        f"{verdict.a} − {verdict.b}",
        signed(d, True),
        _part(d.between, d.between_freedom),
        _part(d.shared, d.shared_freedom),
        "–" if math.isnan(verdict.adjusted_p) else f"{verdict.adjusted_p:.3f}",
        verdict.text,
        _detectable(verdict),
        _repeats(verdict),
    ]


def _part(variance: float, freedom: float) -> str:
    return "–" if math.isnan(variance) else f"{math.sqrt(variance):.4f} ({freedom:.3g})"


def _detectable(verdict: Verdict) -> str:
    if verdict.difference.count < 2:
        return "–"
    return "no difference: add a repeat" if math.isnan(verdict.detectable) else f"{verdict.detectable:.3f}"


def _repeats(verdict: Verdict) -> str:
    """Return how many repeats would settle a pair, or what would."""
    if verdict.settled:
        return ""
    if verdict.difference.count < 2:
        return "2"
    more = verdict.repeats_to_settle
    return f"{more:,}" if more else "needs more people"
