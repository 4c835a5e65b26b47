"""Operating points: which negative sets the threshold that holds a false-positive rate, and when the data supports one.

A rate (FPR, or FAR of a search) over N negatives allows k = floor(rate * N + 1e-9) of them above the threshold, so the
threshold is the (k+1)-th largest negative. Where k is 0 the rate is beyond what N negatives can measure; where it is
below ten, the threshold rests on so few negatives that a handful of pairs, perhaps of one look-alike, decides it.
"""

import math

import torch
from torch import Tensor

DEFAULT_FPRS = (0.1, 0.05, 0.01, 0.001)
FURTHER_FPRS = (1e-4, 1e-5, 1e-6)  # measured as well where the data supports them and no others are asked for
ENOUGH = 10  # negatives above a threshold: with fewer, the operating point is thin
_ROUNDING = 1e-9  # 0.001 * 1000 may be 0.9999999999999999


def allowed(rate: float, negatives: int) -> int:
    """Return how many of the negatives may lie above the threshold: 0 where the rate is not supported.

    Args:
        rate: target rate in (0, 1).
        negatives: N, their number.

    Example:
        >>> allowed(0.01, 250), allowed(0.01, 99)
        (2, 0)
    """
    return min(math.floor(rate * negatives + _ROUNDING), max(negatives - 1, 0))


def allowed_each(rate: float, negatives: Tensor) -> Tensor:
    """Return what `allowed` returns for each number of negatives [B] (int64): [B] int64.

    Example:
        >>> allowed_each(0.01, torch.tensor([250, 99]))
        tensor([2, 0])
    """
    most = (rate * negatives.to(torch.float64) + _ROUNDING).floor().to(torch.int64)
    return most.minimum((negatives - 1).clamp_min(0))


def is_supported(rate: float, negatives: int) -> bool:
    """Return whether so many negatives can measure a rate.

    Example:
        >>> is_supported(0.001, 1000), is_supported(0.001, 999)
        (True, False)
    """
    return allowed(rate, negatives) >= 1


def is_thin(rate: float, negatives: int) -> bool:
    """Return whether a rate is supported, but by fewer than ten negatives above the threshold.

    Example:
        >>> is_thin(0.001, 9_999), is_thin(0.001, 10_000), is_thin(0.001, 999)
        (True, False, False)
    """
    return 1 <= allowed(rate, negatives) < ENOUGH


def usual_fprs(negatives: int) -> tuple[float, ...]:
    """Return the false-positive rates to measure where none are asked for: `DEFAULT_FPRS`, and lower decades that the
    data supports.

    Example:
        >>> usual_fprs(9_200), usual_fprs(100_000)
        ((0.1, 0.05, 0.01, 0.001), (0.1, 0.05, 0.01, 0.001, 0.0001, 1e-05))
    """
    return (*DEFAULT_FPRS, *(rate for rate in FURTHER_FPRS if is_supported(rate, negatives)))


def negatives_needed(rate: float) -> int:
    """Return the least number of negatives that supports a rate.

    Example:
        >>> negatives_needed(0.001)
        1000
    """
    return math.ceil(1 / rate - _ROUNDING)
