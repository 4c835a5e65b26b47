"""Where labels go, so that none covers another: beside the ends of lines, and around points."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_NEAR, _RING, _ANGLES = 5.0, 9.0, 16  # points from a point to the nearest label, and to the next ring; directions tried
_MARK = 3.5  # points from the middle of a marker to its edge
_AWAY = 12.0  # a ring further away is as bad as covering so many square points


class Box(NamedTuple):
    """A rectangle."""

    left: float
    low: float
    right: float
    high: float

    def shared(self, other: "Box") -> float:
        """Return the area that two have in common."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.high, other.high) - max(self.low, other.low)
        return width * height if width > 0 and height > 0 else 0.0


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions at least `gap` apart, in the order of those wanted and near to them, between `low` and `high`.

    Where so many do not fit, they stand evenly from `low` to `high`.

    Example:
        >>> spread([0.5, 0.5], 0.1, 0.0, 1.0)
        [0.45, 0.55]
    """
    if not wanted:
        return []
    order = np.argsort(np.asarray(wanted, dtype=float), kind="stable")
    if len(order) > 1:
        gap = min(gap, (high - low) / (len(order) - 1))
    steps = gap * np.arange(len(order))
    blocks: list[tuple[float, int]] = []  # less the steps, positions may not fall: isotonic regression, by pooling
    for value in np.asarray(wanted, dtype=float)[order] - steps:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m), (b, n) = blocks[-2:]
            blocks[-2:] = [((a * m + b * n) / (m + n), m + n)]
    settled = np.repeat([value for value, _ in blocks], [count for _, count in blocks])
    placed = np.empty(len(order))
    placed[order] = np.clip(settled, low, high - steps[-1]) + steps
    return [round(float(value), 6) for value in placed]


def place_beside(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    room: Box,
    *,
    rings: Sequence[int],
    obstacles: Sequence[Box] = (),
) -> list[tuple[Box, bool] | None]:
    """Return a place for the label of each point, and whether it is so far away that it needs a leader.

    The places near to a point are preferred, and those that cover little; the first labels of the list choose first.

    Args:
        points: in points (1/72 inch).
        sizes: of the labels, width and height.
        room: where labels may be.
        rings: how far each label may go from its point, 1 to 9; each further ring is 9 points wide.
        obstacles: what labels should not cover, and may.

    Returns:
        None where every place would cover a point or another label.
    """
    taken = [Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK) for x, y in points]
    places: list[tuple[Box, bool] | None] = []
    for point, size, most in zip(points, sizes, rings, strict=True):
        tried: list[tuple[float, int, Box, bool]] = []
        for ring in range(most):
            for turn in range(_ANGLES):
                box = _around(point, size, _NEAR + _RING * ring, 2 * math.pi * (turn + 0.5) / _ANGLES)
                inside = box.shared(room) >= 0.999 * size[0] * size[1]
                if inside and not any(box.shared(other) for other in taken):
                    covered = sum(box.shared(mark) for mark in obstacles)
                    tried.append((_AWAY * ring + covered, len(tried), box, ring > 1))
        if tried:
            *_, box, far = min(tried)
            taken.append(box)
            places.append((box, far))
        else:
            places.append(None)
    return places


def _around(point: tuple[float, float], size: tuple[float, float], radius: float, angle: float) -> Box:
    """Return a label's box in a direction from a point, its nearest edge or corner `radius` away."""
    along = (math.cos(angle), math.sin(angle))
    x, y = (
        at + radius * to + side / 2 * max(-1.0, min(1.0, 1.5 * to))
        for at, to, side in zip(point, along, size, strict=True)
    )
    return Box(x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)
