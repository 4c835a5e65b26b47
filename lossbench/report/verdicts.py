"""Which entrant is ahead of which, and whether the data can say so at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from lossbench.metrics.statistics import Comparison, compare, holm
from lossbench.registry import UNTRAINED
from lossbench.report.tables import HEADLINE, Figure, entrants, values
from lossbench.results import Record

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05  # a verdict is "ahead" when its Holm-adjusted p-value is below this


@dataclass(frozen=True)
class Verdict:
    """Two entrants compared at one figure over the repeats that both finished."""

    figure: Figure
    a: str
    b: str
    comparison: Comparison
    adjusted_p: float

    @property
    def ahead(self) -> str | None:
        """The entrant that is ahead, or None where they are not separable."""
        if not self.adjusted_p < LEVEL:  # NaN is not separable either
            return None
        return self.a if self.comparison.difference.mean > 0 else self.b

    @property
    def text(self) -> str:
        """The verdict in words."""
        return f"{self.ahead} ahead" if self.ahead else "not separable"


def verdicts(records: Sequence[Record], figures: Sequence[Figure] = HEADLINE) -> list[Verdict]:
    """Compare all pairs of trained entrants at every figure by paired differences over repeats.

    The p-values are adjusted for the number of pairs, figure by figure, by Holm's rule.
    """
    names = [name for name in entrants(records) if name != UNTRAINED]
    found = []
    for figure in figures:
        by_name = {name: values(records, name, figure.name) for name in names}
        pairs = list(combinations(names, 2))
        comparisons = [_paired(by_name[a], by_name[b]) for a, b in pairs]
        adjusted = holm([comparison.p_value for comparison in comparisons])
        found += [
            Verdict(figure, a, b, comparison, p)
            for (a, b), comparison, p in zip(pairs, comparisons, adjusted, strict=True)
        ]
    return found


def _paired(a: dict[int, float], b: dict[int, float]) -> Comparison:
    shared = sorted(set(a) & set(b))
    return compare([a[repeat] for repeat in shared], [b[repeat] for repeat in shared])


def verdict_table(found: Sequence[Verdict]) -> "pd.DataFrame":
    """Return the verdicts as numbers, one row per pair and figure."""
    import pandas as pd

    return pd.DataFrame(
        {
            "figure": verdict.figure.name,
            "a": verdict.a,
            "b": verdict.b,
            "difference": verdict.comparison.difference.mean,
            "ci95": verdict.comparison.difference.half_width,
            "repeats": verdict.comparison.difference.count,
            "p": verdict.comparison.p_value,
            "p_holm": verdict.adjusted_p,
            "verdict": verdict.text,
        }
        for verdict in found
    )
