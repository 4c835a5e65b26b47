"""Which entrant is ahead of which, and whether the data can say so at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from lossbench.losses.plugin import UNTRAINED
from lossbench.metrics.uncertainty import Estimate, holm
from lossbench.results.metric_fields import Metric, shown_in
from lossbench.results.study import Study

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05  # a verdict is "ahead" when its Holm-adjusted p-value is below this


@dataclass(frozen=True)
class Verdict:
    """Two entrants compared at one figure, a - b, over the repeats that both finished and the people of them."""

    figure: Metric
    a: str
    b: str
    difference: Estimate
    adjusted_p: float
    level: float  # of the single comparison: the least that Holm's rule may ask of it

    @property
    def ahead(self) -> str | None:
        """The entrant that is ahead, or None where they are not separable."""
        if not self.adjusted_p < LEVEL:  # NaN is not separable either
            return None
        return self.a if (self.difference.mean > 0) == (self.figure.better != "less") else self.b

    @property
    def text(self) -> str:
        """The verdict in words."""
        return f"{self.ahead} ahead" if self.ahead else "not separable"


def verdicts(study: Study) -> list[Verdict]:
    """Compare all pairs of trained entrants at every figure by paired differences, where they share finished repeats.

    The figures are those that the table of metrics shows in verdicts: what every loss can be compared at.

    The p-values are adjusted for the number of pairs, figure by figure, by Holm's rule.
    """
    names = [name for name in study.entrants if name != UNTRAINED]
    found = []
    for figure in shown_in("verdicts", fprs=study.fprs):
        compared = {(a, b): study.difference(a, b, figure.key) for a, b in combinations(names, 2)}
        compared = {pair: difference for pair, difference in compared.items() if difference.count}
        pairs, differences = list(compared), list(compared.values())
        adjusted = holm([d.p_value for d in differences])
        found += [
            Verdict(figure, a, b, d, p, LEVEL / len(pairs))
            for (a, b), d, p in zip(pairs, differences, adjusted, strict=True)
        ]
    return found


def rank_table(found: Sequence[Verdict]) -> "pd.DataFrame":
    """Return each loss's rank at every figure, ties shared: 1 plus the number of losses that are ahead of it."""
    import pandas as pd

    names = list(dict.fromkeys(name for v in found for name in (v.a, v.b)))
    ranks: dict[str, list[str] | list[int]] = {"loss": names}
    for figure in dict.fromkeys(v.figure.key for v in found):
        own = [v for v in found if v.figure.key == figure]
        ranks[figure] = [1 + sum(name in (v.a, v.b) and v.ahead not in (None, name) for v in own) for name in names]
    return pd.DataFrame(ranks)


def verdict_table(found: Sequence[Verdict]) -> "pd.DataFrame":
    """Return the verdicts as numbers, one row per pair and figure."""
    import pandas as pd

    return pd.DataFrame(
        {
            "figure": v.figure.key,
            "a": v.a,
            "b": v.b,
            "difference": v.difference.mean,
            "ci95": v.difference.half_width,
            "repeats": v.difference.count,
            "p": v.difference.p_value,
            "p_holm": v.adjusted_p,
            "verdict": v.text,
            "detectable": v.difference.detectable(v.level),
            "repeats_to_separate": v.difference.repeats_to_separate(v.level),
        }
        for v in found
    )
