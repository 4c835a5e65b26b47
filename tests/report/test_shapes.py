"""Bars and curves lie where their numbers say."""

import math

import pytest

from lossbench.report.shapes import HEIGHT, WIDTH, Box, axis_of, bar


@pytest.mark.parametrize(
    ("values", "limits", "axis"),
    [
        ([0.417, 0.615], (0, 1), (0.4, 0.65)),
        ([0.983, 1.0], (0, 1), (0.98, 1.0)),
        ([0.02, 0.9], (0, 1), (0.0, 1.0)),
        ([12.0, 80.0], (0, 180), (0.0, 80.0)),
        ([math.nan], (0, 1), (0.0, 1.0)),
        ([], (0, 1), (0.0, 1.0)),
    ],
)
def test_an_axis_holds_its_values_and_ends_at_the_limits(values, limits, axis):
    assert axis_of(values, limits) == axis


def test_an_axis_of_one_value_is_no_point():
    low, high = axis_of([0.5, 0.5], (0, 1))
    assert low < high
    assert low <= 0.5 <= high


def test_a_bar_is_in_proportion():
    found = bar(0.5, 0.45, 0.6, (0.4, 0.6))
    assert (found.low, found.at, found.high, found.width) == (25.0, 50.0, 100.0, 75.0)
    assert bar(0.5, math.nan, math.nan, (0.4, 0.6)).width == 0
    assert bar(math.nan, 0.1, 0.2, (0, 1)) is None
    assert bar(0.9, 0.2, 2.0, (0.4, 0.6)) == (0.0, 100.0, 100.0), "cut off at the axis"


def test_a_curve_goes_from_corner_to_corner():
    assert Box(1, 3, 0, 1).points([1, 2, 3], [0, 0.5, 1]) == f"0.0,{HEIGHT} {WIDTH / 2},{HEIGHT / 2} {WIDTH},0.0"
    assert Box(1, 3, 0.01, 1, log=True).points([1, 3], [1, 0.1]) == f"0.0,0.0 {WIDTH},{HEIGHT / 2}"


def test_what_is_no_number_leaves_no_mark():
    assert Box(0, 1, 0, 1).points([0, 0.5, math.inf], [math.nan, 1, 0]) == f"{WIDTH / 2},0.0"
