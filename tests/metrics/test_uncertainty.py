"""Intervals and verdicts: SciPy where it has the formula, simulation where the truth is known."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lossbench.metrics.uncertainty import estimate, holm, paired_difference

_FILE = Path(__file__).parent.parent / "perf" / "coverage.py"
_SPEC = importlib.util.spec_from_file_location("coverage_simulation", _FILE)
coverage = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(coverage)


def by_repeat(values):
    return dict(enumerate(values))


def test_without_shared_people_it_is_students_t():
    values = [0.91, 0.94, 0.90, 0.97]
    got = estimate(by_repeat(values), {}, 8)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (got.mean - got.half_width, got.mean + got.half_width) == pytest.approx((low, high))
    assert got.p_value == pytest.approx(stats.ttest_1samp(values, 0).pvalue)


def test_shared_people_add_their_covariance():
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.05, 4000)
    draws = {r: 0.8 + common + rng.normal(0, 0.02, 4000) for r in range(3)}
    got = estimate(by_repeat([0.8, 0.85, 0.75]), draws, 40)
    assert got.shared == pytest.approx(0.05**2, rel=0.08)
    assert got.between == pytest.approx(np.var([0.8, 0.85, 0.75], ddof=1) / 3)
    own = {**draws, 2: 0.8 + rng.normal(0, 0.05, 4000)}
    half = estimate(by_repeat([0.8, 0.81, 0.79]), own, 40)
    assert half.shared == pytest.approx(got.shared / 3, rel=0.15), "one pair of three has its people in common"


def test_one_repeat_has_no_interval():
    got = estimate({0: 0.8}, {0: np.full(10, 0.8)}, 40)
    assert got.mean == 0.8
    assert math.isnan(got.half_width)
    one = paired_difference({0: 0.8}, {0: 0.1}, {}, {}, 40)
    assert math.isnan(one.p_value)
    assert math.isnan(one.freedom)


def test_nan_is_left_out_and_nothing_is_nothing():
    assert estimate({0: 0.5, 1: math.nan, 2: 0.7}, {}, 8).count == 2
    empty = estimate({0: math.nan}, {}, 8)
    assert empty.count == 0
    assert math.isnan(empty.p_value)


def test_differences_without_spread_do_not_prove_everything():
    assert estimate(by_repeat([0.0, 0.0, 0.0]), {}, 8).p_value == 1.0
    assert estimate(by_repeat([0.25, 0.25, 0.25]), {}, 8).p_value == 0.25


def test_differences_are_taken_repeat_by_repeat_and_draw_by_draw():
    a, b = {0: 0.9, 1: 0.8, 2: 0.7}, {1: 0.5, 2: 0.6, 3: 0.1}
    draws = np.random.default_rng(0).normal(size=(2, 500))
    shared = dict.fromkeys(range(4), draws[0]), dict.fromkeys(range(4), draws[0] + 0.1 * draws[1])
    got = paired_difference(a, b, *shared, 30)
    assert got.count == 2
    assert got.mean == pytest.approx((0.3 + 0.1) / 2)
    assert got.shared == pytest.approx(0.01, rel=0.2), "what both entrants owe to the people cancels"
    assert got.freedom == 1


def test_power_is_what_detectable_says():
    """A true difference of the detectable size is found in 80 % of simulated experiments."""
    rng = np.random.default_rng(1)
    size = estimate(by_repeat([-1.0, 0.0, 1.0, 2.0, -2.0]), {}, 8).detectable()
    spread = np.std([-1, 0, 1, 2, -2], ddof=1)
    found = stats.ttest_1samp(rng.normal(size, spread, (2000, 5)), 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.06)


def test_more_repeats_separate_unless_the_people_are_too_few():
    values = by_repeat([0.02, 0.03, -0.01])
    alone = estimate(values, {}, 8)
    needed = alone.repeats_to_separate()
    assert needed > 3
    error = math.sqrt(alone.between * 3 / needed)
    assert alone.mean > stats.t.ppf(0.975, needed - 1) * error
    common = np.random.default_rng(2).normal(0, 0.05, 1000)
    assert estimate(values, dict.fromkeys(range(3), common), 8).repeats_to_separate() is None


def test_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, math.nan, 0.9])[0] == 1.0
    assert math.isnan(holm([0.5, math.nan])[1])


def test_intervals_cover_the_truth_and_identical_entrants_are_seldom_called_different(monkeypatch):
    """A small part of what `python tests/perf/coverage.py` simulates; the bounds are wider by the fewer experiments."""
    monkeypatch.setattr(coverage, "RESAMPLES", 60)
    found = coverage.simulate("folds", experiments=30, seed=1)
    assert found.coverage >= 0.85
    assert found.false_verdicts <= 0.12


def test_repeats_that_happen_to_agree_are_no_evidence():
    """265 against 263 and 234 against 232 of 360 pairs: two repeats, one difference, and people who vary."""
    rng = np.random.default_rng(0)
    a, b = by_repeat([265 / 360, 234 / 360]), by_repeat([263 / 360, 232 / 360])
    draws = [{r: rng.normal(0.7, 0.05, 500) for r in range(2)} for _ in range(2)]
    got = paired_difference(a, b, *draws, 8)
    assert got.error == pytest.approx(0.05 * 0.1**0.5, rel=0.1)  # a tenth of 2 * 0.05^2 / 2
    assert got.p_value > 0.5
    assert paired_difference(a, b, {}, {}, 8).p_value == 0.5, "without resamples rounding is no spread"


def test_resamples_that_only_one_entrant_has_are_left_out():
    draws = np.random.default_rng(0).normal(size=500)
    a, b = {0: 0.9, 1: 0.8, 2: 0.7}, {0: 0.5, 1: 0.6, 2: 0.4}
    both = dict.fromkeys(range(3), draws)
    missing = {0: draws, 1: draws}
    assert paired_difference(a, b, both, missing, 30) == paired_difference(a, b, missing, missing, 30)
    assert paired_difference(a, b, missing, both, 30) == paired_difference(a, b, missing, missing, 30)
    shorter = {0: draws, 1: draws, 2: draws[:10]}
    assert paired_difference(a, b, both, shorter, 30) == paired_difference(a, b, missing, missing, 30)


def test_repeats_without_a_common_resample_add_no_covariance():
    """The mean covariance is over all pairs of repeats; one with fewer than two draws in common counts as 0."""
    draws = np.random.default_rng(0).normal(0, 0.1, 400)
    holes = draws.copy()
    holes[1:] = math.nan
    alone = estimate(by_repeat([0.8, 0.9]), {0: draws, 1: draws}, 30)
    assert alone.shared == pytest.approx(np.var(draws, ddof=1))
    three = estimate(by_repeat([0.8, 0.9, 0.7]), {0: draws, 1: draws, 2: holes}, 30)
    assert three.shared == pytest.approx(alone.shared / 3)


def test_the_floor_is_a_tenth_of_the_variance_of_the_mean_over_resamples():
    """s^2 / R + c is never less; it counts once, with what the repeats' covariance adds already."""
    rng = np.random.default_rng(3)
    draws = {r: 0.5 + rng.normal(0, 0.1, 300) for r in range(4)}
    agreeing = estimate(by_repeat([0.5] * 4), draws, 20)
    alone = np.var(np.mean(list(draws.values()), axis=0), ddof=1)
    assert agreeing.between + agreeing.shared == pytest.approx(max(0.1 * alone, agreeing.shared), rel=1e-9)
    assert agreeing.error == pytest.approx(math.sqrt(agreeing.between + agreeing.shared))
    without = estimate(by_repeat([0.5] * 4), {r: draws[r] for r in range(3)}, 20)
    assert without.between == 0, "a repeat without resamples leaves that variance unknown"


def test_degrees_of_freedom_are_satterthwaites():
    common = np.random.default_rng(0).normal(0, 0.05, 2000)
    got = estimate(by_repeat([0.80, 0.86, 0.75]), dict.fromkeys(range(3), common), 12)
    expected = (got.between + got.shared) ** 2 / (got.between**2 / 2 + got.shared**2 / 11)
    assert got.freedom == pytest.approx(expected)
    assert got.half_width == pytest.approx(stats.t.ppf(0.975, expected) * got.error)
    alone = estimate(by_repeat([0.80, 0.86, 0.75]), dict.fromkeys(range(3), common), 1)
    assert alone.freedom == pytest.approx((got.between + got.shared) ** 2 / (got.between**2 / 2 + got.shared**2))
    assert estimate(by_repeat([0.5, 0.5]), {}, 8).freedom == 1.0


def test_how_many_repeats_separate_is_the_least_number_that_would():
    seen = estimate(by_repeat([0.02, 0.03, -0.01]), {}, 8)

    def passes(repeats):
        return seen.mean > stats.t.ppf(0.975, repeats - 1) * math.sqrt(seen.between * 3 / repeats)

    needed = seen.repeats_to_separate()
    assert passes(needed)
    assert not any(passes(fewer) for fewer in range(3, needed))
    assert seen.repeats_to_separate(most=needed) == needed
    assert seen.repeats_to_separate(most=needed - 1) is None
    assert estimate(by_repeat([0.30, 0.31, 0.29]), {}, 8).repeats_to_separate() == 3
    assert estimate(by_repeat([-0.30, -0.31, -0.29]), {}, 8).repeats_to_separate() == 3
    assert estimate(by_repeat([0.30, 0.31]), {}, 8).repeats_to_separate() == 2
    assert estimate(by_repeat([0.75, 1.25, 1.0]), {}, 8).repeats_to_separate() == 3
    assert estimate(by_repeat([0.1, -0.1]), {}, 8).repeats_to_separate() is None
    assert estimate({0: 0.3}, {}, 8).repeats_to_separate() is None


def test_the_detectable_difference_depends_on_the_level():
    got = estimate(by_repeat([0.1, 0.2, 0.4]), {}, 8)
    for level in (0.05, 0.01):
        quantiles = stats.t.ppf(1 - level / 2, 2) + stats.t.ppf(0.8, 2)
        assert got.detectable(level) == pytest.approx(quantiles * got.error)
