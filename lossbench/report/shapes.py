"""The geometry of small drawings: plain numbers and strings of numbers, which a template puts into SVG."""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 240.0, 96.0  # of a curve's box, in units of its viewBox


class Bar(NamedTuple):
    """An interval on an axis of 0 to 100; `low` and `high` are the ends, `at` the mean."""

    low: float
    high: float
    at: float

    @property
    def width(self) -> float:
        """The length of the interval."""
        return round(self.high - self.low, 2)


def axis_of(values: Iterable[float], limits: tuple[float, float]) -> tuple[float, float]:
    """Return the ends of an axis that holds these values: round ones, within what the figure can be.

    Example:
        >>> axis_of([0.417, 0.615], (0.0, 1.0))
        (0.4, 0.65)
    """
    kept = [value for value in values if math.isfinite(value)]
    if not kept:
        return 0.0, 1.0
    step = _step((max(kept) - min(kept)) / 6)
    low = max(limits[0], math.floor(min(kept) / step + 1e-9) * step)
    high = min(limits[1], math.ceil(max(kept) / step - 1e-9) * step)
    return (round(low, 10), round(high, 10)) if high > low else (low, low + 1.0)


def _step(rough: float) -> float:
    """Return the next larger of 1, 2 and 5 times a power of ten."""
    if rough <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    return float(next(power * times for times in (1, 2, 5, 10) if power * times >= rough * (1 - 1e-9)))


def bar(mean: float, low: float, high: float, axis: tuple[float, float]) -> Bar | None:
    """Return an interval on its axis; the mean alone where it has no interval, None where there is no value."""
    if not math.isfinite(mean):
        return None
    ends = (low, high) if math.isfinite(low) and math.isfinite(high) else (mean, mean)
    return Bar(*(round(100 * min(1.0, max(0.0, (v - axis[0]) / (axis[1] - axis[0]))), 2) for v in (*ends, mean)))


class Box(NamedTuple):
    """What a curve's box spans, in the units of its data; `log` where the vertical axis is logarithmic."""

    left: float
    right: float
    bottom: float
    top: float
    log: bool = False

    def points(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """Return a curve as the points of a polyline, cut off at the box's edges; without what is not a number."""
        placed = []
        for x, y in zip(xs, ys, strict=True):
            if math.isfinite(x) and math.isfinite(y):
                across = WIDTH * self._share(x, self.left, self.right, False)
                placed.append(f"{across:.1f},{HEIGHT * (1 - self._share(y, self.bottom, self.top, self.log)):.1f}")
        return " ".join(placed)

    @staticmethod
    def _share(value: float, low: float, high: float, log: bool) -> float:
        if log:
            value, low, high = (math.log10(max(v, 1e-300)) for v in (value, low, high))
        return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5
