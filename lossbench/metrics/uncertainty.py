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
times over). Each part has its own degrees of freedom, those of c the number of people less one. The two are joined as
Cochran & Cox do ("Experimental designs", 1950, section 4.14): t is compared with the mean of their two quantiles,
weighted by the parts. Satterthwaite's formula is stronger, but errs at two repeats: where these agree by chance, it
counts the people's degrees of freedom, and called 0.07 to 0.13 of identical pairs different where this calls fewer than
0.06 (tests/perf/coverage.py). One repeat has no s^2 and does not tell what another seed would give: it has no interval.

A few repeats say little of their own spread. `lossbench.metrics.pooling` borrows it from all entrants.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

_FLOOR = 0.1  # share of the people's own variance that the repeats' may not fall below

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure of one entrant, or the difference of two, with the two parts of its variance.

    `between` is s^2 / R, `shared` is c, each with its degrees of freedom. `count` is the number of repeats.
    """

    mean: float
    between: float
    between_freedom: float
    shared: float
    shared_freedom: float
    count: int

    @property
    def error(self) -> float:
        """The standard error of the mean; NaN where nothing is known of it."""
        return math.sqrt(self.between + self.shared)

    @property
    def half_width(self) -> float:
        """Half-width of the 95 % interval; NaN where nothing is known of the error."""
        return self.half_width_at(0.05)

    def half_width_at(self, level: float) -> float:
        """Half-width of the interval that leaves out the truth in a share `level` of experiments."""
        return self._quantile(1 - level / 2) * self.error

    def interval(self, low: float = -math.inf, high: float = math.inf) -> tuple[float, float]:
        """The 95 % interval, cut off where the figure ends, at `low` and `high`: what is cut off cannot be the truth.

        NaN where nothing is known of the error.

        Example:
            >>> low, high = estimate({0: 0.99, 1: 0.96}, {}, people=8).interval(0, 1)
            >>> print(f"{low:.3f} to {high}")
            0.784 to 1
        """
        half = self.half_width
        return (math.nan, math.nan) if math.isnan(half) else (max(low, self.mean - half), min(high, self.mean + half))

    @property
    def p_value(self) -> float:
        """Two-sided p-value of "the true mean is 0"; NaN where nothing is known of the error."""
        if math.isnan(self.error) or math.isnan(self.mean):
            return math.nan
        if self.error <= 1e-9 * abs(self.mean):  # rounding
            return 1.0 if self.mean == 0 else 2.0 ** (1 - self.count)  # no spread: the sign-flip test's least p-value
        t, weight = abs(self.mean) / self.error, self.between / (self.between + self.shared)
        return 2 * _tail(t, weight, self.between_freedom, self.shared_freedom)

    def _quantile(self, level: float) -> float:
        """The mean of the t quantiles of the two parts, weighted by them; NaN where nothing is known of the error."""
        return float(_joined_quantile(level, self.between, self.between_freedom, self.shared, self.shared_freedom))

    @property
    def reversed(self) -> "Estimate":
        """The difference the other way round, b - a."""
        return replace(self, mean=-self.mean)

    def within(self, size: float, level: float = 0.05) -> bool:
        """Return whether the true mean is closer to 0 than `size`: two one-sided t-tests, each at `level`.

        Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach".
        """
        return bool(abs(self.mean) + self._quantile(1 - level) * self.error < size)

    def detectable(self, level: float = 0.05) -> float:
        """The smallest true difference that a two-sided test at `level` finds in 80 % of such experiments."""
        return (self._quantile(1 - level / 2) + self._quantile(0.8)) * self.error

    def after(self, repeats: int, lasting: float = math.nan) -> "Estimate":
        """What is to be expected of so many repeats in all: less error between them, with more degrees of freedom.

        Args:
            repeats: in all.
            lasting: the people's variance that no repeat takes away, where that is more than `shared`: repeats on other
                people share none, until the people come round again.
        """
        between, freedom, shared = self._parts_after(np.array([repeats]), lasting)
        return replace(self, between=float(between[0]), between_freedom=float(freedom[0]), shared=shared, count=repeats)

    def _parts_after(self, repeats: npt.NDArray[np.int64], lasting: float) -> tuple[Floats, Floats, float]:
        """Return `between` and its degrees of freedom for each of so many repeats [R], and `shared` for all of them."""
        shared = self.shared if math.isnan(lasting) else max(self.shared, lasting)
        left = max(self.between + self.shared - shared, 0.0)
        grown = (repeats - 1) / max(self.count - 1, 1)
        return left * self.count / repeats, self.between_freedom * grown, shared

    def _first(self, offset: float, size: float, level: float, most: int, lasting: float) -> int | None:
        """Return the least number of repeats in all at which offset + half-width < size, at a one-sided `level`."""
        repeats = np.arange(self.count, most + 1)
        between, freedom, shared = self._parts_after(repeats, lasting)
        halves = _joined_quantile(1 - level, between, freedom, shared, self.shared_freedom) * np.sqrt(between + shared)
        return next(iter(repeats[offset + halves < size].tolist()), None)

    def repeats_to_separate(self, level: float = 0.05, most: int = 1000, *, lasting: float = math.nan) -> int | None:
        """Repeats in all at which the mean seen, were it the truth, would pass a test at `level`; None beyond `most`.

        Where the people's share is too large, only more people help; `lasting` as of `after`.
        """
        if math.isnan(self.error) or self.mean == 0 or self.count < 2:
            return None
        return self._first(0.0, abs(self.mean), level / 2, most, lasting)

    def repeats_to_be_within(
        self, size: float, level: float = 0.05, most: int = 1000, *, lasting: float = math.nan
    ) -> int | None:
        """Repeats in all at which the mean seen, were it the truth, would be found `within` a size; None beyond `most`.

        Where the people's share is too large, only more people help; `lasting` as of `after`.
        """
        if math.isnan(self.error) or abs(self.mean) >= size or self.count < 2:
            return None
        return self._first(abs(self.mean), size, level, most, lasting)

    def people_decide(self, level: float = 0.05) -> bool:
        """Return whether no number of repeats would make the mean seen pass a test at `level`: people are too few."""
        from scipy import special

        return bool(abs(self.mean) <= special.stdtrit(self.shared_freedom, 1 - level / 2) * math.sqrt(self.shared))


def unknown(mean: float = math.nan, count: int = 0) -> Estimate:
    """Return an estimate of no repeat, or of one: nothing is known of its error.

    Example:
        >>> unknown(0.8, count=1).half_width
        nan
    """
    return Estimate(mean, math.nan, math.nan, math.nan, math.nan, count)


def estimate(values: Mapping[int, float], resamples: Mapping[int, Floats], people: int) -> Estimate:
    """Estimate a figure from its own repeats and from resamples of the people.

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
    kept = finite(values)
    if len(kept) < 2:
        return unknown(sum(kept.values()) if kept else math.nan, len(kept))
    spread = float(np.var(list(kept.values()), ddof=1))
    return of_spread(kept, spread, len(kept) - 1, resamples, people)


def finite(values: Mapping[int, float]) -> dict[int, float]:
    """Return the values that are there, by repeat and in their order.

    Example:
        >>> finite({1: 0.8, 0: math.nan})
        {1: 0.8}
    """
    return {repeat: value for repeat, value in sorted(values.items()) if not math.isnan(value)}


def of_spread(
    values: Mapping[int, float], spread: float, freedom: float, resamples: Mapping[int, Floats], people: int
) -> Estimate:
    """Estimate a figure from two or more repeats whose variance is known to be `spread`, with `freedom` degrees.

    `values`, none of them NaN, `resamples` and `people` as of `estimate`.

    Example:
        >>> found = of_spread({0: 0.80, 1: 0.90}, spread=0.0016, freedom=6, resamples={}, people=8)
        >>> print(f"{found.mean:.3f} ± {found.half_width:.3f}")
        0.850 ± 0.069
    """
    count = len(values)
    shared, alone = _people_parts([resamples.get(repeat) for repeat in values])
    between = max(spread / count, _FLOOR * alone - shared)
    mean = float(np.mean(list(values.values())))
    return Estimate(mean, between, freedom, shared, max(people - 1, 1), count)


def _people_parts(resamples: "Sequence[Floats | None]") -> tuple[float, float]:
    """Return c, the mean covariance of two repeats over resamples, and the variance of the repeats' mean.

    A repeat without resamples has no covariance to add, and then the variance of the mean is not known: 0.
    """
    drawn = [draws for draws in resamples if draws is not None]
    if not drawn:
        return 0.0, 0.0
    most = min(map(len, drawn))  # the draws of a name are the same from the first on
    table = np.stack([draws[:most] for draws in drawn])
    whole = np.isfinite(table)
    means = table.mean(axis=0)[whole.all(axis=0)]
    alone = float(np.var(means, ddof=1)) if len(means) > 1 and len(drawn) == len(resamples) else 0.0
    if len(drawn) < 2 or most < 2:
        return 0.0, alone
    if whole.all():  # the variance of a sum is that of its terms and twice their covariances
        total, own = np.var(table.sum(axis=0), ddof=1), np.var(table, axis=1, ddof=1).sum()
        covariance = float(total - own) / (len(drawn) * (len(drawn) - 1))
    else:
        pairs = [(i, j) for i in range(len(drawn)) for j in range(i)]
        covariance = float(np.mean([covariance_of(table[i], table[j]) for i, j in pairs]))
    return max(0.0, covariance), alone


def covariance_of(a: Floats, b: Floats) -> float:
    """Return the covariance of two figures over the resamples that both have: 0 where those are fewer than two.

    Args:
        a: a figure in each resample [A], NaN where it is not supported.
        b: another [B], from the same draws: the shorter of the two counts.

    Example:
        >>> covariance_of(np.array([0.0, 1.0, math.nan]), np.array([1.0, 3.0, 5.0, 7.0]))
        1.0
    """
    length = min(len(a), len(b))  # the draws of a name are the same from the first on
    both = np.isfinite(a[:length]) & np.isfinite(b[:length])
    return float(np.cov(a[:length][both], b[:length][both])[0, 1]) if both.sum() > 1 else 0.0


def _tail(t: float, weight: float, own: float, shared: float) -> float:
    """Return the p at which `weight` of Student's upper quantile of `own` degrees and the rest of `shared` make up `t`.

    Of the two quantiles the larger one, x, that of fewer degrees, is sought by the secant method inside its bracket.
    """
    from scipy import special  # not stats, which takes a second to import

    if own > shared:
        own, shared, weight = shared, own, 1 - weight
    if own == shared or weight in (0, 1) or t == 0:
        return float(special.stdtr(own if weight else shared, -t))
    low, high = t, t / weight
    before, value_before, x = 0.0, -t, t
    for _ in range(100):
        value = weight * x - (1 - weight) * float(special.stdtrit(shared, special.stdtr(own, -x))) - t
        low, high = (x, high) if value < 0 else (low, x)
        if abs(x - before) <= 1e-12 * x or value == value_before:
            break
        step = value * (x - before) / (value - value_before)
        before, value_before, x = x, value, x - step
        if not low < x < high:
            x = (low + high) / 2
    return float(special.stdtr(own, -x))


def _joined_quantile(
    level: float, between: float | Floats, between_freedom: float | Floats, shared: float, shared_freedom: float
) -> Floats:
    """Return the mean of the t quantiles of the two parts, weighted by them; NaN where their degrees are unknown."""
    from scipy import special

    own = np.asarray(special.stdtrit(between_freedom, level))
    if shared == 0:
        return own
    weight = between / (between + shared)
    return np.asarray(weight * own + (1 - weight) * special.stdtrit(shared_freedom, level))
