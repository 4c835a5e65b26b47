"""Borrowed strength against plain loops, SciPy and cases whose answer is known."""

import math
from itertools import combinations

import numpy as np
import pytest
from scipy import optimize, special, stats

from lossbench.metrics.pooling import Pool, differences, estimates
from lossbench.metrics.uncertainty import estimate


def table(entrants, repeats, seed=0, spreads=None):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(entrants, repeats)) * np.reshape(spreads or [1.0] * entrants, (-1, 1))
    rows += rng.normal(size=(1, repeats)) + np.arange(entrants)[:, None]
    return {f"loss{i}": dict(enumerate(map(float, row))) for i, row in enumerate(rows)}


def residual_variance(values):
    """Entrants' and repeats' effects by turns, each the mean of what the other leaves, until nothing moves."""
    rows = {(e, r): v for e, own in values.items() for r, v in own.items() if not math.isnan(v)}
    effects = {key: 0.0 for e, r in rows for key in (e, r)}
    for _ in range(500):
        for effect in effects:
            cells = [(e, r) for e, r in rows if effect in (e, r)]
            effects[effect] += np.mean([rows[e, r] - effects[e] - effects[r] for e, r in cells])
    left = sum((v - effects[e] - effects[r]) ** 2 for (e, r), v in rows.items())
    return left / (len(rows) - len(effects) + 1)


def test_the_pool_is_the_residual_variance_after_entrant_and_repeat():
    values = table(4, 3)
    assert Pool.of(values).mean_square == pytest.approx(residual_variance(values))
    assert Pool.of(values).freedom == 6
    values["loss1"][2] = math.nan  # a failed run
    del values["loss2"][0]
    assert Pool.of(values).mean_square == pytest.approx(residual_variance(values))
    assert Pool.of(values).freedom == 4


def test_an_entrant_of_one_repeat_tells_nothing_of_the_spread():
    values = table(3, 3)
    assert Pool.of({**values, "late": {1: 17.0}}) == Pool.of(values)
    assert Pool.of({"a": {0: 1.0}, "b": {0: 2.0}}).freedom == 0
    assert Pool.of({}).freedom == 0


def test_the_weight_is_fitted_to_the_scatter_of_the_logarithms():
    values = table(5, 6, seed=3, spreads=[1, 1, 1, 1, 9])
    logs = []
    for a, b in combinations(values.values(), 2):
        logs.append(math.log(np.var([a[r] - b[r] for r in range(6)], ddof=1)))
    beyond = np.var(logs, ddof=1) - special.polygamma(1, 2.5)
    assert beyond > 0
    root = optimize.brentq(lambda d0: special.polygamma(1, d0 / 2) - beyond, 1e-3, 1e6)
    assert Pool.of(values).weight == pytest.approx(root, rel=1e-6)
    assert Pool.of(table(5, 6, seed=3)).weight > 4 * root, "equal spreads are worth more"


def test_two_entrants_have_nobody_to_borrow_from():
    values = table(2, 4)
    got = differences(values, {}, 8)["loss0", "loss1"]
    expected = stats.ttest_rel(*[list(own.values()) for own in values.values()])
    assert got.p_value == pytest.approx(expected.pvalue)
    assert got.between_freedom == 3


def test_alike_spreads_are_drawn_together_up_to_the_limit():
    values = table(4, 3, seed=1)
    assert Pool.of(values).weight == math.inf
    weight = 0.2 * 2 + 0.45 * (6 - 2)
    for (a, b), got in differences(values, {}, 8).items():
        own = np.var([values[a][r] - values[b][r] for r in range(3)], ddof=1)
        spread = (weight * 2 * residual_variance(values) + 2 * own) / (weight + 2)
        assert got.between == pytest.approx(spread / 3)
        assert got.between_freedom == pytest.approx(weight + 2)


def test_a_restless_loss_does_not_hide_behind_calm_ones():
    values = table(6, 10, seed=5, spreads=[1, 1, 1, 1, 1, 8])
    got = differences(values, {}, 8)
    assert got["loss0", "loss5"].between > 1.2 * 2 * Pool.of(values).mean_square / 10, "above the pooled spread"
    assert got["loss0", "loss1"].between < 0.6 * 2 * Pool.of(values).mean_square / 10, "and the calm below it"


def test_a_pair_of_one_repeat_has_no_error_and_one_of_none_no_value():
    values = {**table(3, 3), "late": {1: 17.0}, "failed": {0: math.nan}}
    got = differences(values, {}, 8)
    assert got["loss0", "late"].count == 1
    assert got["loss0", "late"].mean == values["loss0"][1] - 17
    assert math.isnan(got["loss0", "late"].p_value)
    assert got["loss0", "failed"].count == got["late", "failed"].count == 0
    assert got["loss0", "loss1"] == differences(table(3, 3), {}, 8)["loss0", "loss1"]
    assert estimates(values, {}, 8)["late"].count == 1
    assert estimates(values, {}, 8)["failed"].count == 0


def test_differences_are_taken_draw_by_draw_where_both_have_them():
    values = table(3, 3)
    draws = np.random.default_rng(0).normal(size=(2, 500))
    resamples = {name: dict.fromkeys(range(3), draws[0]) for name in values}
    resamples["loss1"] = dict.fromkeys(range(3), draws[0] + 0.1 * draws[1])
    got = differences(values, resamples, 30)
    assert got["loss0", "loss2"].shared == 0, "what both entrants owe to the people cancels"
    assert got["loss0", "loss1"].shared == pytest.approx(0.01, rel=0.2)
    assert got["loss0", "loss1"].shared_freedom == 29
    resamples["loss1"] = {0: draws[0], 1: draws[0][:10], 2: draws[0]}
    without = {name: {r: own[r] for r in (0, 2)} for name, own in resamples.items()}
    assert differences(values, resamples, 30) == differences(values, without, 30), "others in number are left out"


def test_single_figures_share_their_spread_but_not_their_repeats():
    values = table(4, 3)
    rows = np.array([list(own.values()) for own in values.values()])
    blocks, residuals = np.var(rows.mean(axis=0), ddof=1), 0.75 * residual_variance(values)
    pooled = np.var(rows, axis=1, ddof=1).mean()
    assert pooled == pytest.approx(blocks + residuals), "the identity that the two parts rest on"
    most = pooled**2 / (blocks**2 / 2 + residuals**2 / 6)
    weight = 0.2 * 2 + 0.45 * 4
    for name, got in estimates(values, {}, 8).items():
        own = np.var(list(values[name].values()), ddof=1)
        assert got.between == pytest.approx((weight * pooled + 2 * own) / (weight + 2) / 3)
        assert got.between_freedom == pytest.approx(max(2, min(weight + 2, most)))
    same = {name: {r: v + 100 * r for r, v in own.items()} for name, own in values.items()}
    assert estimates(same, {}, 8)["loss0"].between_freedom == pytest.approx(2, abs=0.01), "repeats decide, all entrants"


def test_alone_a_figure_has_its_own_spread():
    own = {0: 0.8, 1: 0.9, 2: 0.85}
    assert estimates({"a": own}, {}, 8)["a"] == estimate(own, {}, 8)


@pytest.mark.parametrize("value", [0.0, 0.25])
def test_entrants_that_never_vary_are_no_reason_to_divide_by_zero(value):
    values = {name: dict.fromkeys(range(3), value * i) for i, name in enumerate("abc")}
    got = differences(values, {}, 8)
    assert got["a", "b"].p_value == (0.25 if value else 1.0)
