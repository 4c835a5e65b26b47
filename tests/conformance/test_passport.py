"""The curves of a passport against ArcFace's formula, and what it flags."""

import math
from pathlib import Path

import pytest
import torch

from lossbench.conformance import passport
from lossbench.conformance.check import PROPERTIES
from lossbench.conformance.probe import CLASSES
from lossbench.errors import InputError
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec

PLANTED = Path(__file__).parent / "planted"
MARGIN, SCALE, STEPS = 0.3, 16, 37


def measured(text):
    """Measure with a tenth of the angles; no schedule here takes 2,000 steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passport, "STEPS", STEPS)
        patch.setattr("lossbench.conformance.probe._SETTLE", 3)
        return passport.measure_passport(parse_spec(str(text), find_plugins()))


@pytest.fixture(scope="module")
def arcface():
    return measured(f"arcface:margin={MARGIN}:scale={SCALE}")


@pytest.fixture
def inner(arcface):
    """The curve's angles between 0, where sin has a floor, and pi - m, beyond which the logit is another one."""
    theta = torch.linspace(0, math.pi, STEPS, dtype=torch.float64)
    torch.testing.assert_close(arcface.curves[0].theta, theta)
    return (theta > 0) & (theta <= math.pi - MARGIN)


def test_the_target_logit_is_that_of_the_margin_that_is_really_applied(arcface, inner):
    """s·cos(theta + m), found from the loss alone."""
    curve = arcface.curves[0]
    torch.testing.assert_close(curve.target_logit[inner], SCALE * (curve.theta[inner] + MARGIN).cos())


def test_loss_and_gradient_are_those_of_the_softmax(arcface, inner):
    """By hand, all other classes at 90 degrees: log(1 + (C - 1) exp(-target)), and its derivative on the sphere."""
    curve = arcface.curves[0]
    pushed = curve.theta[inner] + MARGIN
    rest = (CLASSES - 1) * (-SCALE * pushed.cos()).exp()
    torch.testing.assert_close(curve.loss[inner], rest.log1p())
    slope = SCALE * rest / (1 + rest) * (pushed.sin() ** 2 + 1 / (CLASSES - 1)).sqrt()
    torch.testing.assert_close(curve.gradient[inner], slope)


def test_beside_a_loss_stand_ce_and_arcface(arcface):
    assert [curve.name for curve in arcface.curves] == ["arcface:margin=0.3:scale=16.0", "ce", "arcface"]
    assert (arcface.flags, arcface.units) == ((), ("margin in radians",))


def test_what_is_suspicious_is_flagged():
    assert any(flag.startswith("suspected degrees: ") for flag in measured(PLANTED / "degrees.py").flags)
    assert set(passport._FLAGS) <= {prop.name for prop in PROPERTIES}


def test_a_gradient_that_differs_by_design_is_said():
    found = measured("circle")
    assert [line.split(";")[0] for line in found.flags] == ["by design, the gradient is not the loss's derivative"]


def test_a_loss_without_centers_has_no_own_class_angle():
    with pytest.raises(InputError, match=r"\A'triplet' has no class centers, [^\n]*; use lossbench check\Z"):
        measured("triplet")
