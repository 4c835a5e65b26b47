"""Intervals and verdicts: SciPy where it has the formula, simulation where the truth is known."""

import importlib.util
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from lossbench.metrics.uncertainty import Estimate, estimate

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
    assert math.isnan(got.p_value)
    assert math.isnan(got.detectable())
    assert got.repeats_to_separate() is None
    assert not got.within(1.0)


def test_nan_is_left_out_and_nothing_is_nothing():
    assert estimate({0: 0.5, 1: math.nan, 2: 0.7}, {}, 8).count == 2
    empty = estimate({0: math.nan}, {}, 8)
    assert empty.count == 0
    assert math.isnan(empty.p_value)


def test_differences_without_spread_do_not_prove_everything():
    assert estimate(by_repeat([0.0, 0.0, 0.0]), {}, 8).p_value == 1.0
    assert estimate(by_repeat([0.25, 0.25, 0.25]), {}, 8).p_value == 0.25


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


def test_two_parts_meet_between_their_two_quantiles():
    """Cochran & Cox: the weighted mean; each part alone is Student's t."""
    both = Estimate(0.5, between=0.03, between_freedom=2, shared=0.01, shared_freedom=30, count=3)
    quantile = (0.03 * stats.t.ppf(0.975, 2) + 0.01 * stats.t.ppf(0.975, 30)) / 0.04
    assert both.half_width == pytest.approx(quantile * 0.2)
    people = Estimate(0.5, between=0.0, between_freedom=2, shared=0.04, shared_freedom=30, count=3)
    assert people.p_value == pytest.approx(2 * stats.t.sf(2.5, 30))
    seeds = Estimate(0.5, between=0.04, between_freedom=2, shared=0.0, shared_freedom=30, count=3)
    assert seeds.p_value == pytest.approx(2 * stats.t.sf(2.5, 2))
    assert people.p_value < both.p_value < seeds.p_value


@pytest.mark.parametrize("seed", range(40))
def test_an_interval_at_its_own_p_value_ends_at_zero(seed):
    rng = np.random.default_rng(seed)
    between, shared = rng.random(2) ** 4
    freedoms = float(rng.choice([1, 1.65, 3.3, 50])), float(rng.choice([1, 7, 23, 117]))
    mean = math.sqrt(between + shared) * rng.uniform(0.1, 5)
    found = Estimate(mean, between, freedoms[0], shared, freedoms[1], count=3)
    assert 0 < found.p_value < 1
    assert found.half_width_at(found.p_value) == pytest.approx(found.mean, rel=1e-4)
    assert found.reversed.p_value == found.p_value


def test_an_interval_ends_where_the_figure_does():
    few = estimate(by_repeat([0.99, 0.96]), {}, 8)
    assert few.interval(0, 1) == (few.mean - few.half_width, 1)
    assert few.interval() == (few.mean - few.half_width, few.mean + few.half_width)


def test_equivalence_is_two_one_sided_tests():
    values = [0.004, -0.006, 0.001, 0.002]
    found = estimate(by_repeat(values), {}, 8)
    p_value = max(
        stats.ttest_1samp(values, 0.01, alternative="less").pvalue,
        stats.ttest_1samp(values, -0.01, alternative="greater").pvalue,
    )
    assert found.within(0.01, p_value * 1.001)
    assert not found.within(0.01, p_value * 0.999)


def test_what_lasts_is_not_divided_by_more_repeats():
    found = Estimate(0.1, between=0.04, between_freedom=4, shared=0.0, shared_freedom=7, count=5)
    later = found.after(50, lasting=0.03)
    assert later.shared == 0.03
    assert later.between == pytest.approx(0.001), "a tenth of what does not last"
    assert found.after(50) == found.after(50, lasting=0.0)
    assert found.after(5, lasting=0.03).error == pytest.approx(found.error)
    assert found.repeats_to_separate(lasting=0.03) is None
    assert found.repeats_to_separate() is not None


def test_people_decide_where_their_error_alone_hides_the_difference():
    common = np.random.default_rng(2).normal(0, 0.05, 1000)
    found = estimate(by_repeat([0.08, 0.09, 0.07]), dict.fromkeys(range(3), common), 40)
    assert found.people_decide(0.05), "0.08 is less than 2.02 times 0.05"
    assert not found.people_decide(0.2)
    assert not estimate(by_repeat([0.08, 0.09, 0.07]), {}, 40).people_decide()


def test_intervals_cover_the_truth_and_identical_entrants_are_seldom_called_different(monkeypatch):
    """A small part of what `python tests/perf/coverage.py` simulates; the bounds are wider by the fewer experiments."""
    monkeypatch.setattr(coverage, "RESAMPLES", 60)
    faces = coverage.simulate(coverage.Cell("faces", 3, 5, design="folds"), experiments=20, seed=1)
    assert faces.coverage >= 0.85
    assert faces.error <= 0.15
    seeds = coverage.simulate(coverage.Cell("seeds", 3, 3), experiments=200, seed=1)
    assert 0.90 <= seeds.coverage <= 0.99
    assert seeds.error <= 0.09
    assert seeds.power >= 0.8
    looks = coverage.simulate(coverage.Cell("looks", 3, 20), experiments=60, seed=1)
    assert looks.error <= 0.1


def test_repeats_that_happen_to_agree_are_no_evidence():
    """265 against 263 and 234 against 232 of 360 pairs: two repeats, one difference, and people who vary."""
    rng = np.random.default_rng(0)
    agreeing = by_repeat([(265 - 263) / 360, (234 - 232) / 360])
    draws = {r: rng.normal(0, 0.05 * 2**0.5, 500) for r in range(2)}
    got = estimate(agreeing, draws, 8)
    assert got.error == pytest.approx(0.05 * 0.1**0.5, rel=0.1)  # a tenth of 2 * 0.05^2 / 2
    assert got.p_value > 0.5
    assert estimate(agreeing, {}, 8).p_value == 0.5, "without resamples rounding is no spread"


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
