"""Intervals and comparisons against SciPy, and Holm's rule against his own description."""

import math

import numpy as np
import pytest
from scipy import stats

from lossbench.metrics import compare, holm, mean_interval


def test_interval_equals_scipys():
    values = [0.91, 0.94, 0.90, 0.97]
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    got = mean_interval(values)
    assert (got.mean - got.half_width, got.mean + got.half_width) == pytest.approx((low, high))


def test_interval_of_few_values_does_not_pretend():
    assert math.isnan(mean_interval([0.5]).half_width)
    assert math.isnan(mean_interval([]).mean)
    assert mean_interval([0.5, math.nan, 0.7]).count == 2


def test_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        got = mean_interval(rng.normal(0.8, 0.05, 3).tolist())
        hits += abs(got.mean - 0.8) <= got.half_width
    assert 0.93 <= hits / 2000 <= 0.97


def test_compare_is_the_paired_t_test():
    a, b = [0.9, 0.8, 0.95, 0.7], [0.85, 0.82, 0.9, 0.6]
    got = compare(a, b)
    assert got.p_value == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert got.difference.mean == pytest.approx(np.mean(np.subtract(a, b)))


def test_differences_without_spread_do_not_prove_everything():
    assert compare([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]).p_value == 1.0
    assert compare([0.75, 0.5, 1.0], [0.5, 0.25, 0.75]).p_value == 0.25
    assert math.isnan(compare([0.5], [0.6]).p_value)


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, math.nan, 0.9])[0] == 1.0
    assert math.isnan(holm([0.5, math.nan])[1])
