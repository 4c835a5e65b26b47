"""How many negatives an operating point allows, against exact fractions."""

from fractions import Fraction

import pytest
import torch

from lossbench.metrics.operating_point import (
    allowed,
    allowed_each,
    is_supported,
    is_thin,
    negatives_needed,
    usual_fprs,
)

RATES = ("0.1", "0.05", "0.01", "0.001", "0.0001", "0.00001", "0.000001", "0.3", "0.7")
COUNTS = (1, 9, 10, 19, 20, 99, 100, 999, 1000, 1001, 10_000, 12_345, 99_999, 100_000, 1_000_000, 123_456_789)


@pytest.mark.parametrize("rate", RATES)
def test_it_is_the_whole_part_of_rate_times_negatives(rate):
    exact = [Fraction(rate) * count // 1 for count in COUNTS]
    assert [allowed(float(rate), count) for count in COUNTS] == exact
    assert allowed_each(float(rate), torch.tensor(COUNTS)).tolist() == exact
    assert [is_supported(float(rate), count) for count in COUNTS] == [k >= 1 for k in exact]


@pytest.mark.parametrize("rate", RATES)
def test_the_least_number_of_negatives_is_the_first_that_supports_a_rate(rate):
    needed = negatives_needed(float(rate))
    assert is_supported(float(rate), max(needed, 2))
    assert not is_supported(float(rate), needed - 1)


def test_a_threshold_is_always_one_of_the_negatives():
    assert allowed(1 - 1e-12, 7) == 6
    assert allowed_each(1 - 1e-12, torch.tensor([7, 1, 0])).tolist() == [6, 0, 0]
    assert allowed(0.5, 0) == 0


@pytest.mark.parametrize("rate", RATES)
def test_a_point_is_thin_where_one_to_nine_negatives_lie_above_it(rate):
    thin = [1 <= Fraction(rate) * count // 1 <= 9 for count in COUNTS]
    assert [is_thin(float(rate), count) for count in COUNTS] == thin


def test_the_usual_rates_are_four_and_the_lower_decades_that_are_supported():
    four = (0.1, 0.05, 0.01, 0.001)
    assert usual_fprs(0) == usual_fprs(9_999) == four
    assert usual_fprs(10_000) == (*four, 1e-4)
    assert usual_fprs(999_999) == (*four, 1e-4, 1e-5)
    assert usual_fprs(10**6) == usual_fprs(10**12) == (*four, 1e-4, 1e-5, 1e-6)
