"""Many comparisons, and many looks at growing data: p-values and levels that keep the error of the whole family."""

import math
from collections.abc import Sequence

_LAST_STEPS = 2 / 3  # of the comparisons: what a p-value is multiplied with at least


def step_down(p_values: Sequence[float], least: float = _LAST_STEPS) -> list[float]:
    """Return the p-values adjusted for their number by Holm's step-down rule, whose last steps are held back.

    The smallest of m p-values is multiplied by m, the next by m - 1, and so on (Holm 1979), but none by less than
    `least` of m. Holm's last steps test at the full level, which is right where each p-value is. But a p-value from a
    spread that entrants share is too small for the most restless of them: with Holm's rule, identical losses beside
    different ones were called different in too many simulated experiments, and the first steps leave room for that (see
    `lossbench.metrics.pooling` and tests/perf/coverage.py). Whatever `least` is, the family's error is at most Holm's.

    NaN stays NaN and counts as no comparison. ``least=0`` is Holm's rule, ``least=1`` Bonferroni's.

    Example:
        >>> step_down([0.01, 0.04, 0.03], least=0)
        [0.03, 0.06, 0.06]
        >>> step_down([0.01, 0.04, 0.03])
        [0.03, 0.08, 0.06]
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, running = [math.nan] * len(p_values), 0.0
    for rank, (p, i) in enumerate(order):
        running = max(running, min(1.0, p * max(len(order) - rank, least * len(order))))
        adjusted[i] = running
    return adjusted


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number by Holm's step-down rule (Holm 1979); NaN stays NaN, uncounted.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    return step_down(p_values, least=0.0)


def spent(share: float, level: float = 0.05) -> float:
    """Return how much of an error of `level` may be spent by the time that this share of the data is there.

    The spending function of Lan & DeMets 1983, "Discrete sequential boundaries for clinical trials", that resembles
    Pocock's boundaries: level * ln(1 + (e - 1) * share). What a look may spend is its value now less that at the look
    before, so that all looks together err at most as often as one test at `level`, however they depend on each other.

    Args:
        share: 0 to 1; more counts as 1.
        level: the error of all looks together.

    Example:
        >>> [round(spent(repeats / 20), 4) for repeats in (2, 3, 20)]
        [0.0079, 0.0115, 0.05]
    """
    return level * math.log1p((math.e - 1) * min(max(share, 0.0), 1.0))
