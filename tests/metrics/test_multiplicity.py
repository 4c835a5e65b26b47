"""Adjusted p-values by hand, and levels of looks that add up."""

import math

import numpy as np
import pytest

from lossbench.metrics.multiplicity import holm, spent, step_down


def test_holm_and_bonferroni_are_its_ends():
    p_values = [0.01, 0.04, 0.03, 0.005]
    assert holm(p_values) == step_down(p_values, least=0) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert step_down(p_values, least=1) == pytest.approx([0.04, 0.16, 0.12, 0.02])


def test_the_last_steps_are_held_back():
    assert step_down([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 4 * 2 / 3 * 0.04, 4 * 2 / 3 * 0.03, 0.02])
    assert step_down([0.03]) == [pytest.approx(0.03)]
    assert step_down([0.02, 0.03]) == pytest.approx([0.04, 0.04]), "never below that of a smaller one"


def test_nan_is_no_comparison():
    assert step_down([0.5, math.nan, 0.9])[0] == 1.0
    assert math.isnan(step_down([0.5, math.nan])[1])
    assert step_down([0.01, math.nan]) == [pytest.approx(0.01), pytest.approx(math.nan, nan_ok=True)]
    assert step_down([]) == []


def test_all_looks_together_spend_the_level():
    at = [spent(repeats / 20) for repeats in range(21)]
    assert at[0] == 0
    assert at[-1] == pytest.approx(0.05)
    assert np.all(np.diff(at) > 0)
    assert spent(0.5, 0.2) == pytest.approx(0.2 * math.log(1 + (math.e - 1) * 0.5))
    assert spent(3) == spent(1)
    assert spent(-1) == 0
