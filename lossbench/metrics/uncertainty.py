"""What the repeats and the people together say about a figure: its interval, and whether two entrants differ.

A mean over R repeats errs for two reasons. Each repeat draws its own seed (and, where there are folds, other people):
the spread between repeats shows it, divided by R. And where repeats are measured on some of the same people, they err
together: no number of repeats shows that, but resampling the people does. So

    variance = s^2 / R + c

with s^2 the variance between repeats and c the mean covariance of two repeats over resamples of people in which each
person is drawn equally often in every repeat that includes them. The expectation of s^2 is the mean variance of the
repeats less their mean covariance, so that of the sum is the variance of their mean. It is never taken to be less than
a tenth of the variance of that mean over the resamples: a few repeats that agree by chance, as counts of pairs do, are
no evidence that nothing varies (a tenth, because resampling a handful of people overstates their variance several
times over). The interval is Student's t with Satterthwaite's degrees of freedom (1946). One repeat has no s^2 and does
not tell what another seed would give: it has no interval.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import numpy.typing as npt

_FLOOR = 0.1  # share of the people's own variance that the repeats' may not fall below

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure of one entrant, or the difference of two: mean, standard error and degrees of freedom.

    `between` and `shared` are the two parts of the variance, s^2 / R and c. `count` is the number of repeats.
    """

    mean: float
    error: float
    freedom: float
    between: float
    shared: float
    count: int

    @property
    def half_width(self) -> float:
        """Half-width of the 95 % interval; NaN where nothing is known of the error."""
        return _quantile(0.975, self.freedom) * self.error

    @property
    def p_value(self) -> float:
        """Two-sided p-value of "the true mean is 0"; NaN where nothing is known of the error."""
        from scipy import special  # not stats, which takes a second to import

        if math.isnan(self.error) or math.isnan(self.mean):
            return math.nan
        if self.error <= 1e-9 * abs(self.mean):  # rounding
            return 1.0 if self.mean == 0 else 2.0 ** (1 - self.count)  # no spread: the sign-flip test's least p-value
        return 2 * float(special.stdtr(self.freedom, -abs(self.mean) / self.error))

    def detectable(self, level: float = 0.05) -> float:
        """The smallest true difference that a two-sided test at `level` finds in 80 % of such experiments."""
        return (_quantile(1 - level / 2, self.freedom) + _quantile(0.8, self.freedom)) * self.error

    def repeats_to_separate(self, level: float = 0.05, most: int = 1000) -> int | None:
        """Repeats in all at which the mean seen, were it the truth, would pass a test at `level`; None beyond `most`.

        More repeats shrink s^2 / R alone: where the people's share is too large, only more people help.
        """
        if math.isnan(self.error) or self.mean == 0 or self.count < 2:
            return None
        for repeats in range(self.count, most + 1):
            error = math.sqrt(self.between * self.count / repeats + self.shared)
            if abs(self.mean) > _quantile(1 - level / 2, max(repeats - 1, 1)) * error:
                return repeats
        return None


def estimate(values: Mapping[int, float], resamples: Mapping[int, Floats], people: int) -> Estimate:
    """Estimate a figure from its repeats and from resamples of the people.

    Args:
        values: the figure by repeat; NaN where a repeat failed or does not support it.
        resamples: by repeat, the figure in each resample of its people [B], from the same draws row by row (see
            `bootstrap.multiplicities`). A repeat may be absent.
        people: how many people a repeat is measured on.

    Example:
        >>> found = estimate({0: 0.80, 1: 0.90, 2: 0.85}, {}, people=8)
        >>> print(f"{found.mean:.3f} ± {found.half_width:.3f}")
        0.850 ± 0.124
    """
    kept = [repeat for repeat, value in sorted(values.items()) if not math.isnan(value)]
    if not kept:
        return Estimate(math.nan, math.nan, math.nan, math.nan, math.nan, 0)
    mean = float(np.mean([values[repeat] for repeat in kept]))
    if len(kept) == 1:
        return Estimate(mean, math.nan, math.nan, math.nan, math.nan, 1)
    between = float(np.var([values[repeat] for repeat in kept], ddof=1)) / len(kept)
    pairs = list(combinations(kept, 2))
    covariances = [_covariance(resamples[a], resamples[b]) for a, b in pairs if a in resamples and b in resamples]
    shared = max(0.0, float(np.mean(covariances))) if covariances else 0.0
    between = max(between, _FLOOR * _people_alone([resamples.get(repeat) for repeat in kept]) - shared)
    variance = between + shared
    parts = between**2 / (len(kept) - 1) + shared**2 / max(people - 1, 1)
    return Estimate(mean, math.sqrt(variance), variance**2 / parts if parts else 1.0, between, shared, len(kept))


def paired_difference(
    a: Mapping[int, float],
    b: Mapping[int, float],
    resamples_a: Mapping[int, Floats],
    resamples_b: Mapping[int, Floats],
    people: int,
) -> Estimate:
    """Estimate a - b over the repeats that both have; arguments as of `estimate`.

    The degrees of freedom are R - 1: the covariance of differences is often near 0 and its estimate, all noise then,
    must not buy any. So the variance is never below, and t never above, that of the paired t-test.

    Example:
        >>> arcface, softmax = {0: 0.80, 1: 0.90, 2: 0.85}, {0: 0.70, 1: 0.85, 2: 0.80}
        >>> found = paired_difference(arcface, softmax, {}, {}, people=8)
        >>> print(f"{found.mean:.3f}, p = {found.p_value:.3f}")
        0.067, p = 0.057
    """
    both = sorted(set(a) & set(b))
    drawn = [r for r in both if r in resamples_a and r in resamples_b and resamples_a[r].shape == resamples_b[r].shape]
    values = {repeat: a[repeat] - b[repeat] for repeat in both}
    found = estimate(values, {r: resamples_a[r] - resamples_b[r] for r in drawn}, people)
    return replace(found, freedom=found.count - 1 if found.count > 1 else math.nan)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number by Holm's step-down rule (Holm 1979); NaN stays NaN, uncounted.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    adjusted, running = [math.nan] * len(p_values), 0.0
    for rank, (p, i) in enumerate(order):
        running = max(running, min(1.0, p * (len(order) - rank)))
        adjusted[i] = running
    return adjusted


def _quantile(level: float, freedom: float) -> float:
    from scipy import special

    return math.nan if math.isnan(freedom) else float(special.stdtrit(freedom, level))


def _people_alone(resamples: "list[Floats | None]") -> float:
    """Return the variance, over resamples of the people, of the mean over repeats; 0 where a repeat has none."""
    drawn = [draws for draws in resamples if draws is not None]
    if len(drawn) < len(resamples):
        return 0.0
    most = min(map(len, drawn))  # the draws of a name are the same from the first on
    means = np.mean([draws[:most] for draws in drawn], axis=0)
    means = means[np.isfinite(means)]
    return float(np.var(means, ddof=1)) if len(means) > 1 else 0.0


def _covariance(a: Floats, b: Floats) -> float:
    most = min(len(a), len(b))  # the draws of a name are the same from the first on
    a, b = a[:most], b[:most]
    both = np.isfinite(a) & np.isfinite(b)
    return float(np.cov(a[both], b[both])[0, 1]) if both.sum() > 1 else 0.0
