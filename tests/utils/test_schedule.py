"""Every schedule of the learning rate against its formula, and what is no schedule."""

import math

import pytest

from lossbench.errors import InputError
from lossbench.utils.schedule import drops, learning_rate


def cosine(step, steps, peak, warmup):
    """The formula in another form: half a cosine is the square of the cosine of half the angle."""
    warm = warmup * steps
    if step >= warm:
        return peak * math.cos(math.pi / 2 * (step - warm) / (steps - warm)) ** 2
    return peak * (step + 1) / (warm + 1)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.25, 0.33, 0.9])
@pytest.mark.parametrize("steps", [1, 4, 10, 97])
def test_every_rate_of_the_cosine_is_its_formulas(steps, warmup):
    for step in range(steps):
        assert learning_rate(step, steps, 3e-3, warmup) == pytest.approx(cosine(step, steps, 3e-3, warmup), rel=1e-9)


@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.33])
def test_the_default_is_the_cosine_to_the_last_bit(warmup):
    """Word by word the expression that trained every run before there was a choice."""
    for steps in (7, 60, 300):
        for step in range(steps):
            warm = warmup * steps
            before = 3e-3 * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
            if step < warm:
                before = 3e-3 * (step + 1) / (warm + 1)
            assert learning_rate(step, steps, 3e-3, warmup, "cosine", steps) == before


def test_known_rates_of_the_cosine():
    """100 steps, 10 of warm-up: evenly up to the peak in the 11th step, half of it midway through the rest, then 0."""
    rates = [learning_rate(step, 100, 1.1, 0.1) for step in range(100)]
    assert rates[:11] == pytest.approx([0.1 * (i + 1) for i in range(11)])
    assert rates[10] == max(rates) == 1.1
    assert rates[55] == pytest.approx(0.55)
    assert rates[99] == pytest.approx(1.1 * math.sin(math.pi / 180) ** 2)
    assert learning_rate(100, 100, 1.1, 0.1) == pytest.approx(0, abs=1e-15)
    assert learning_rate(0, 8, 0.5, 0.0) == 0.5


def test_poly_is_insightfaces():
    """torch's own polynomial schedule, which starts where the warm-up ends, as PolynomialLRWarmup of arcface_torch."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.1)
    reference = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=90, power=2)
    rates = [learning_rate(step, 100, 1.1, 0.1, "poly", 20) for step in range(100)]
    assert rates[:11] == pytest.approx([0.1 * (i + 1) for i in range(11)])
    for rate in rates[10:]:
        assert rate == pytest.approx(reference.get_last_lr()[0], rel=1e-6)
        optimizer.step()
        reference.step()


def test_steps_divide_the_rate_by_ten_after_the_epochs_named():
    """20 epochs of 7 steps: the peak to the end of epoch 10, a tenth to the end of epoch 18, then a hundredth."""
    rates = [learning_rate(step, 140, 0.5, 0.0, "step:10,18", 20) for step in range(140)]
    assert rates == pytest.approx([0.5] * 70 + [0.05] * 56 + [0.005] * 14)
    warm = [learning_rate(step, 140, 0.5, 0.1, "step:10,18", 20) for step in range(140)]
    assert warm[:14] == pytest.approx([0.5 * (i + 1) / 15 for i in range(14)])
    assert warm[14:] == rates[14:]


@pytest.mark.parametrize(
    ("schedule", "found"), [("cosine", ()), ("poly", ()), ("step:10,18", (10, 18)), ("step:1", (1,))]
)
def test_the_epochs_of_a_schedule(schedule, found):
    assert drops(schedule) == found


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        ("linear", "--schedule 'linear' is not known; use cosine, poly, or epochs as in step:10,18"),
        ("", "--schedule '' is not known"),
        ("step", "--schedule 'step' is not known"),
        ("step:", "--schedule 'step:' is not known"),
        ("step:10,", "--schedule 'step:10,' is not known"),
        ("step:1.5", "--schedule 'step:1.5' is not known"),
        ("step:-1", "--schedule 'step:-1' is not known"),
        ("step:²", "--schedule 'step:²' is not known"),
        ("cosine:3", "--schedule 'cosine:3' is not known"),
        ("step:" + "9" * 5000, "is not known"),
        ("step:18,10", "--schedule step:18,10 should name rising epochs from 1"),
        ("step:10,10", "--schedule step:10,10 should name rising epochs from 1"),
        ("step:0,10", "--schedule step:0,10 should name rising epochs from 1"),
    ],
)
def test_what_is_no_schedule_is_one_line(schedule, says):
    with pytest.raises(InputError, match=rf"\A[^\n]*{says}[^\n]*\Z"):
        drops(schedule)
