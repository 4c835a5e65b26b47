"""What a few repeats can say: intervals, paired differences, corrected for the number of comparisons."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean and the half-width of its 95 % interval; the half-width is NaN for fewer than two values."""

    mean: float
    half_width: float
    count: int


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of `values` with Student's t interval over them (Student 1908). NaN values are left out.

    Args:
        values: one figure per repeat.
        level: coverage in (0, 1), for independent, roughly normal values.
    """
    from scipy import stats

    kept = [v for v in values if not math.isnan(v)]
    if not kept:
        return Interval(math.nan, math.nan, 0)
    mean = float(np.mean(kept))
    if len(kept) < 2:
        return Interval(mean, math.nan, len(kept))
    error = float(np.std(kept, ddof=1)) / math.sqrt(len(kept))
    return Interval(mean, float(stats.t.ppf((1 + level) / 2, len(kept) - 1)) * error, len(kept))


@dataclass(frozen=True)
class Comparison:
    """The paired difference a - b over repeats: its interval and the two-sided p-value of "no difference"."""

    difference: Interval
    p_value: float


def compare(a: Sequence[float], b: Sequence[float]) -> Comparison:
    """Compare two entrants by their paired differences over the same repeats (paired t-test).

    Repeats where either is NaN are left out. The p-value is NaN for fewer than two pairs and 1 when all differences
    are zero. When they are all the same but not zero, as accuracies on few images may be, their spread says nothing
    and the p-value is that of the exact sign-flip test, 2^(1-n).
    """
    from scipy import stats

    differences = [x - y for x, y in zip(a, b, strict=True) if not math.isnan(x - y)]
    interval = mean_interval(differences)
    if len(differences) < 2:
        return Comparison(interval, math.nan)
    if np.ptp(differences) == 0:
        return Comparison(interval, 1.0 if interval.mean == 0 else 2.0 ** (1 - len(differences)))
    return Comparison(interval, float(stats.ttest_1samp(differences, 0.0).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number by Holm's step-down rule (Holm 1979); NaN stays NaN, uncounted."""
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, running = [math.nan] * len(p_values), 0.0
    for rank, (p, i) in enumerate(order):
        running = max(running, min(1.0, p * (len(order) - rank)))
        adjusted[i] = running
    return adjusted
