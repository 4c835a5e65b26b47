"""Which entrant is ahead of which, which are equivalent, and whether the data can say so at all."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import TYPE_CHECKING, Any

from lossbench.metrics.multiplicity import step_down
from lossbench.metrics.uncertainty import Estimate
from lossbench.results.metric_fields import Metric, shown_in
from lossbench.results.people_error import people_limit
from lossbench.results.study import Study

if TYPE_CHECKING:
    import pandas as pd

LEVEL = 0.05  # of all verdicts on one figure together: in so many experiments at most, one that is false
SMALLEST = 0.02  # a difference of shares that matters: smaller ones are called equivalent


@dataclass(frozen=True)
class Decided:
    """What looks at growing data have decided of a pair (`results.looks`): who is ahead; whether it is equivalent."""

    ahead: str | None
    equivalent: bool


@dataclass(frozen=True)
class Verdict:
    """Two entrants compared at one figure, a - b, over the repeats that both finished and the people of them.

    `adjusted_p` is below `level` where one is ahead; `each` is the level of a single comparison, the least that the
    adjustment may ask of it. `smallest` is the difference of shares that matters, `lasting` the people's variance that
    no repeat takes away, NaN where it is not known. Where repeats were added until all was settled, `decided` is what
    the looks say, and these figures alone decide nothing.
    """

    figure: Metric
    a: str
    b: str
    difference: Estimate
    adjusted_p: float
    each: float
    level: float = LEVEL
    smallest: float = SMALLEST
    decided: Decided | None = None
    lasting: float = math.nan

    @property
    def ahead(self) -> str | None:
        """The entrant that is ahead, or None where they are not separable."""
        if self.decided is not None:
            return self.decided.ahead
        return self._better if self.adjusted_p < self.level else None  # NaN is not separable either

    @property
    def _better(self) -> str:
        """The entrant whose mean is better."""
        return self.a if (self.difference.mean > 0) == (self.figure.better != "less") else self.b

    @property
    def equivalent(self) -> bool:
        """Whether the two are closer than the smallest difference that matters, by two one-sided tests at the level."""
        if self.decided is not None:
            return self.decided.equivalent
        return self.figure.unit == "share" and self.difference.within(self.smallest, self.level)

    @property
    def settled(self) -> bool:
        """Whether one is ahead or the two are equivalent: more repeats would tell nothing that matters."""
        return self.ahead is not None or self.equivalent

    @property
    def contradicted(self) -> bool:
        """Whether an early look decided what the mean of all repeats speaks against."""
        reversed_ = self.ahead is not None and self.ahead != self._better
        return reversed_ or (self.equivalent and abs(self.difference.mean) >= self.smallest)

    @property
    def text(self) -> str:
        """The verdict in words."""
        if self.difference.count < 2:
            return "needs a second repeat"
        small = f", by less than {self.smallest:g}" if self.equivalent else ""
        if self.ahead:
            return f"{self.ahead} ahead{small}"
        return f"equivalent (within {self.smallest:g})" if self.equivalent else "not separable"

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the difference, cut off at what the figure can differ by; NaN where there is none."""
        low, high = self.figure.limits
        return self.difference.interval(low - high, high - low)

    @property
    def detectable(self) -> float:
        """The true difference that this design finds with a power of 80 %; NaN beyond what the figure can differ by."""
        size = self.difference.detectable(self.each)
        low, high = self.figure.limits
        return size if size <= high - low else math.nan

    @cached_property
    def repeats_to_settle(self) -> int | None:
        """Repeats in all that have an even chance of settling the pair, if the difference seen is the true one.

        None where it is settled, and where only more people would settle it.
        """
        if self.settled:
            return None
        enough = [self.difference.repeats_to_separate(self.each, lasting=self.lasting)]
        if self.figure.unit == "share":
            enough.append(self.difference.repeats_to_be_within(self.smallest, self.level, lasting=self.lasting))
        least = min(filter(None, enough), default=None)
        return least and max(least, self.difference.count + 1)  # a look spends but a part of the level


def verdicts(study: Study, *, level: float = LEVEL, smallest: float = SMALLEST) -> list[Verdict]:
    """Compare all pairs of trained entrants at every figure by paired differences, where they share finished repeats.

    The figures are those that the table of metrics shows in verdicts: what every loss can be compared at. The spread
    between seeds is that of all entrants together, and the p-values are adjusted for the number of pairs, figure by
    figure (see `metrics.pooling` and `metrics.multiplicity`). Pairs of one repeat have no p-value and do not count.

    Args:
        study: the runs.
        level: of all verdicts on one figure together.
        smallest: the difference of shares that matters.
    """
    found = []
    for figure in shown_in("verdicts", fprs=study.fprs):
        pairs = {(a, b): study.difference(a, b, figure.key) for a, b in combinations(study.trained, 2)}
        pairs = {pair: difference for pair, difference in pairs.items() if difference.count}
        adjusted = step_down([difference.p_value for difference in pairs.values()])
        each = level / max(1, sum(difference.count > 1 for difference in pairs.values()))
        lasting = [people_limit(study, *pair, figure.key, guess=True) for pair in pairs]
        found += [
            Verdict(figure, *pair, difference, p, each, level, smallest, lasting=limit)
            for (pair, difference), p, limit in zip(pairs.items(), adjusted, lasting, strict=True)
        ]
    return found


def rank_table(found: Sequence[Verdict]) -> "pd.DataFrame":
    """Return each loss's rank at every figure, ties shared: 1 plus the number of losses that are ahead of it.

    None where a loss shares two repeats with no other: nothing is known of its rank.
    """
    import pandas as pd

    names = list(dict.fromkeys(name for v in found for name in (v.a, v.b)))
    ranks: dict[str, list[str] | list[int | None]] = {"loss": names}
    for figure in dict.fromkeys(v.figure.key for v in found):
        compared = [v for v in found if v.figure.key == figure and v.difference.count > 1]
        own = {name: [v for v in compared if name in (v.a, v.b)] for name in names}
        ranks[figure] = [1 + sum(v.ahead not in (None, n) for v in own[n]) if own[n] else None for n in names]
    return pd.DataFrame(ranks, dtype=object)


def verdict_rows(found: Sequence[Verdict]) -> list[dict[str, Any]]:
    """Return the verdicts as numbers, one row per pair and figure; NaN and None where there is no number."""
    rows = []
    for v in found:
        low, high = v.interval
        row = {
            "figure": v.figure.key,
            "a": v.a,
            "b": v.b,
            "difference": v.difference.mean,
            "difference_low": low,
            "difference_high": high,
            "repeats": v.difference.count,
            "seed_error": math.sqrt(v.difference.between),
            "seed_freedom": v.difference.between_freedom,
            "people_error": math.sqrt(v.difference.shared),
            "people_freedom": v.difference.shared_freedom,
            "p": v.difference.p_value,
            "p_adjusted": v.adjusted_p,
            "verdict": v.text,
            "detectable": v.detectable,
            "repeats_to_settle": v.repeats_to_settle,
        }
        rows.append(row)
    return rows


def verdict_table(found: Sequence[Verdict]) -> "pd.DataFrame":
    """Return the rows of `verdict_rows` as a table."""
    import pandas as pd

    return pd.DataFrame(verdict_rows(found))
