"""Borrowed strength: the spread between seeds, from all entrants together.

Two or three repeats say little of the spread of one loss, but six losses in three repeats say much of it, if their
spreads are alike. Repeats are blocks: a value is an entrant's mean plus its repeat's effect plus a residual, and the
residuals' mean square, over all entrants, estimates the pooled spread. The spread of one difference is then

    s~^2 = (d0 * s0^2 + d * s^2) / (d0 + d)        d0 + d degrees of freedom

with s^2 its own variance over d + 1 repeats, s0^2 twice the pooled mean square, and d0 the weight of the pool: large
where the spreads of the pairs are as alike as chance would have them, 0 where they are not. This is the moderated t of
Smyth 2004, "Linear models and empirical Bayes methods for assessing differential expression", with d0 fitted to the
logarithms of the pairs' variances by moments (section 6.2 there).

Losses are few where genes are many, so d0 is uncertain, and pairs that share an entrant are not independent. It is
therefore never taken to be more than 0.2 d + 0.45 f, with f the degrees of freedom that the other entrants add. This,
and the last steps of `multiplicity.step_down`, were fixed by simulation before any real record was looked at, such that
identical entrants are called different in at most 0.06 of experiments, also where spreads differ 1 : 4 and where other
entrants do differ.

``python tests/perf/coverage.py 4000 seeds people`` prints 256 rows of 4,000 experiments. *Error*: the largest share,
over spreads, tails and failed runs, in which any two identical entrants are called different. *Power*: the share of
differences of 5 seed-standard-deviations that are found, with spreads that are equal, from 1 to 4, and of one restless
entrant. *Coverage*: of the intervals of single figures, least and most.

    ==================  ======  ================  ==============
    entrants, repeats   error   power             coverage
    ==================  ======  ================  ==============
    2, 2                0.059   0.30, 0.32, 0.31  0.946 to 0.953
    2, 3                0.055   0.85, 0.85, 0.84  0.946 to 0.953
    3, 2                0.041   0.28, 0.33, 0.38  0.965 to 0.977
    3, 3                0.052   0.89, 0.88, 0.86  0.956 to 0.966
    3, 5                0.056   1.00, 1.00, 1.00  0.946 to 0.956
    4, 3                0.046   0.86, 0.85, 0.83  0.953 to 0.962
    6, 2                0.023   0.16, 0.21, 0.33  0.954 to 0.967
    6, 3                0.051   0.85, 0.84, 0.76  0.951 to 0.958
    6, 5                0.048   1.00, 0.99, 0.94  0.947 to 0.959
    2 to 6, 10          0.057   1.00, 1.00, 1.00  0.944 to 0.958
    ==================  ======  ================  ==============

With people who vary (2, 3 and 6 entrants; four designs): error at most 0.051; coverage 0.949 to 0.986 in two repeats,
0.956 to 0.973 in three, 0.952 to 0.966 in five. An interval is that of an average entrant: beside five calm ones, that
of a restless one covers 0.88. On simulated faces (part ``faces``) the error is at most 0.038 and coverage 0.954 to
0.956. Of 20 looks at identical entrants (part ``looks``), any is wrong in at most 0.036 of experiments.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from lossbench.metrics.uncertainty import Estimate, Floats, finite, of_spread, unknown

Values = Mapping[str, Mapping[int, float]]
Resamples = Mapping[str, Mapping[int, Floats]]

_OWN, _OTHERS = 0.2, 0.45  # the most that d0 is, in units of d and of f; see above
_LEAST = 1e-3  # of the pooled spread: a pair's variance below it counts as so much where d0 is fitted


@dataclass(frozen=True)
class Pool:
    """The spread of the residuals of all entrants, and how far a pair's own spread is to be drawn towards it.

    `mean_square` is the residual variance of one entrant, with `freedom` degrees of freedom; `weight` is d0 before it
    is limited, infinite where the spreads are alike.
    """

    mean_square: float
    freedom: float
    weight: float

    @classmethod
    def of(cls, values: Values) -> "Pool":
        """Pool the entrants that have two repeats or more; NaN counts as none.

        Args:
            values: by entrant, the figure by repeat.
        """
        kept = {name: own for name, by_repeat in values.items() if len(own := finite(by_repeat)) > 1}
        mean_square, freedom = _two_way(kept)
        if not freedom:
            return cls(math.nan, 0.0, 0.0)
        pairs = [list(_paired(kept[a], kept[b]).values()) for a, b in combinations(kept, 2)]
        spreads = [(float(np.var(pair, ddof=1)), len(pair) - 1) for pair in pairs if len(pair) > 1]
        return cls(mean_square, freedom, _fitted_weight(spreads, 2 * mean_square))

    def moderate(self, spread: float, freedom: float, pooled: float, most: float) -> tuple[float, float]:
        """Return a spread drawn towards the `pooled` one, and its degrees of freedom, `most` at the most."""
        others = self.freedom - freedom
        if not (others > 0 and pooled > 0):  # nobody to borrow from
            return spread, freedom
        weight = min(self.weight, _OWN * freedom + _OTHERS * others)
        return (weight * pooled + freedom * spread) / (weight + freedom), max(freedom, min(weight + freedom, most))


def differences(values: Values, resamples: Resamples, people: int) -> dict[tuple[str, str], Estimate]:
    """Estimate a - b for every two entrants, over the repeats that both have, with the spread that all share.

    Args:
        values: by entrant, the figure by repeat; NaN where a repeat failed or does not support it.
        resamples: by entrant and repeat, the figure in each resample of the people [B], from the same draws row by row.
            Where only one of two entrants has them for a repeat, or others in number, they are left out.
        people: how many people a repeat is measured on.

    Returns:
        An estimate a pair, in the order of `values`; without an error where a pair shares a single repeat, and of count
        0 where it shares none.

    Example:
        >>> arcface, softmax = {0: 0.80, 1: 0.90, 2: 0.85}, {0: 0.70, 1: 0.85, 2: 0.80}
        >>> cosface = {0: 0.79, 1: 0.91, 2: 0.84}
        >>> found = differences({"arcface": arcface, "cosface": cosface, "ce": softmax}, {}, people=8)
        >>> for (a, b), d in found.items():
        ...     print(f"{a} - {b}: {d.mean:.3f}, {d.between_freedom:.1f} degrees of freedom, p = {d.p_value:.3f}")
        arcface - cosface: 0.003, 3.3 degrees of freedom, p = 0.755
        arcface - ce: 0.067, 3.3 degrees of freedom, p = 0.019
        cosface - ce: 0.063, 3.3 degrees of freedom, p = 0.017
    """
    pool = Pool.of(values)
    found = {}
    for a, b in combinations(values, 2):
        both = finite(_paired(values[a], values[b]))
        if len(both) < 2:
            found[a, b] = unknown(sum(both.values()) if both else math.nan, len(both))
            continue
        own = float(np.var(list(both.values()), ddof=1))
        spread, freedom = pool.moderate(own, len(both) - 1, 2 * pool.mean_square, pool.freedom)
        found[a, b] = of_spread(both, spread, freedom, paired_draws(resamples.get(a, {}), resamples.get(b, {})), people)
    return found


def estimates(values: Values, resamples: Resamples, people: int) -> dict[str, Estimate]:
    """Estimate the figure of every entrant, with the spread that all share; arguments as of `differences`.

    A figure varies by its repeat (where there are folds, by the people) and by its residual. The former is the same for
    all entrants, so that more of them do not tell more about it; the pooled spread is the mean of the entrants'
    variances, with Satterthwaite's degrees of freedom of these two parts.

    Example:
        >>> values = {"arcface": {0: 0.80, 1: 0.90}, "cosface": {0: 0.85, 1: 0.87}, "ce": {0: 0.81, 1: 0.82}}
        >>> print(f"{estimates(values, {}, people=8)['arcface'].half_width:.2f}, alone 0.64")
        0.23, alone 0.64
    """
    pool = Pool.of(values)
    kept = {name: finite(by_repeat) for name, by_repeat in values.items()}
    spreads = {name: float(np.var(list(own.values()), ddof=1)) for name, own in kept.items() if len(own) > 1}
    pooled, most = _blocks_and_residuals(pool, [(spread, len(kept[name])) for name, spread in spreads.items()])
    found = {}
    for name, own in kept.items():
        if name not in spreads:
            found[name] = unknown(sum(own.values()) if own else math.nan, len(own))
            continue
        spread, freedom = pool.moderate(spreads[name], len(own) - 1, pooled, most)
        found[name] = of_spread(own, spread, freedom, resamples.get(name, {}), people)
    return found


def _paired(a: Mapping[int, float], b: Mapping[int, float]) -> dict[int, float]:
    return {repeat: a[repeat] - b[repeat] for repeat in sorted(set(a) & set(b))}


def paired_draws(a: Mapping[int, Floats], b: Mapping[int, Floats]) -> dict[int, Floats]:
    """Return a - b in each resample [B], by repeat, where both have as many.

    Example:
        >>> paired_draws({0: np.array([0.5, 0.75]), 1: np.zeros(2)}, {0: np.array([0.25, 0.25]), 1: np.zeros(3)})
        {0: array([0.25, 0.5 ])}
    """
    return {r: a[r] - b[r] for r in sorted(set(a) & set(b)) if a[r].shape == b[r].shape}


def _two_way(values: Values) -> tuple[float, float]:
    """Return the residuals' mean square after entrant and repeat, and its degrees of freedom: 0 where none are left."""
    repeats = sorted({repeat for own in values.values() for repeat in own})
    cells = [(i, repeats.index(r), value) for i, own in enumerate(values.values()) for r, value in own.items()]
    if not cells:
        return math.nan, 0.0
    rows, columns, observed = (np.array(column) for column in zip(*cells, strict=True))
    design = np.zeros((len(cells), len(values) + len(repeats)))
    design[np.arange(len(cells)), rows] = 1
    design[np.arange(len(cells)), len(values) + columns] = 1
    fitted, _, rank, _ = np.linalg.lstsq(design, observed, rcond=None)
    freedom = len(cells) - int(rank)
    residuals = observed - design @ fitted
    return (float(residuals @ residuals) / freedom, float(freedom)) if freedom else (math.nan, 0.0)


def _fitted_weight(spreads: list[tuple[float, int]], pooled: float) -> float:
    """Return d0, fitted to variances and their degrees of freedom: infinite where they differ as chance would have it.

    The logarithm of a variance of d degrees scatters by trigamma(d / 2); what it scatters beyond is trigamma(d0 / 2).
    """
    from scipy import special

    if len(spreads) < 2 or not pooled > 0:
        return math.inf
    own, freedom = (np.array(column, dtype=np.float64) for column in zip(*spreads, strict=True))
    half = freedom / 2
    logs = np.log(np.maximum(own, _LEAST * pooled)) - special.digamma(half) + np.log(half)
    beyond = float(np.var(logs, ddof=1) - special.polygamma(1, half).mean())
    return 2 * _inverse_trigamma(beyond) if beyond > 0 else math.inf


def _inverse_trigamma(value: float) -> float:
    """Return x with trigamma(x) = value > 0, by Newton's method from below (Smyth 2004, appendix)."""
    from scipy import special

    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(special.polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(special.polygamma(2, x))
        x += step
        if abs(step) < 1e-9 * x:
            break
    return x


def _blocks_and_residuals(pool: Pool, spreads: list[tuple[float, int]]) -> tuple[float, float]:
    """Return the mean of the entrants' variances, given with their repeats, and its degrees of freedom."""
    if not spreads or not pool.freedom:
        return math.nan, 0.0
    mean = float(np.mean([spread for spread, _ in spreads]))
    entrants, repeats = len(spreads), max(count for _, count in spreads)
    residuals = (entrants - 1) / entrants * pool.mean_square
    blocks = max(mean - residuals, 0.0)
    parts = blocks**2 / (repeats - 1) + residuals**2 / pool.freedom
    return mean, mean**2 / parts if parts else 0.0
