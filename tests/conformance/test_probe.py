"""A head under examination: its hyper-parameters turned within their ranges, its classes laid out at known angles."""

import math
from dataclasses import replace

import pytest
import torch

from lossbench.conformance.probe import CLASSES, Knob, Subject, at_angle, examined, loss_of, scene
from lossbench.losses.ranges import parse_ranges
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec


def subject(text: str) -> Subject:
    return Subject(parse_spec(text, find_plugins()))


def knob(value, text: str | None = None) -> Knob:
    return Knob(0, "x", "x", value, parse_ranges(text)["x"] if text else None)


@pytest.mark.parametrize(
    ("one", "turns", "larger"),
    [
        (knob(0.5), [0.66, 501, 0.0005], [0.55, 0.75]),
        (knob(0.0), [0.01, 1, 0], [0.1, 0.5]),
        (knob(-0.2), [-0.25, -199, -0.0002], [-0.18, -0.1]),
        (knob(4), [5, 7], [5, 6]),
        (knob(0.5, "0 <= x < pi"), [0.66, 0.0005], [0.55, 0.75]),
        (knob(0.9, "0 <= x <= 1"), [0.0009], [0.99]),
        (knob(1.0, "0 <= x <= 1"), [0.001], []),
        (knob(0.0, "0 <= x <= 0.005"), [0.0025], [0.0025]),
        (knob(1.5, "x >= 1"), [1.96, 1501], [1.65, 2.25]),
        (knob(3, "1 <= x <= 4"), [4], [4]),
        (knob(4, "1 <= x <= 4"), [2], []),
        (knob(1, "1 <= x <= 1"), [], []),
        (knob(True), [False], None),
        (knob("all"), [], None),
    ],
)
def test_a_hyper_parameter_is_turned_within_its_range(one, turns, larger):
    assert one.turns() == pytest.approx(turns)
    assert [type(value) for value in one.turns()] == [type(value) for value in turns] or isinstance(one.value, float)
    if larger is not None:
        assert one.larger() == pytest.approx(larger)


def test_knobs_carry_values_labels_and_ranges():
    margin, scale = subject("arcface:margin=0.3").knobs
    assert (margin.label, margin.value, margin.range.text, margin.is_margin) == (
        "margin",
        0.3,
        "0 <= margin < pi",
        True,
    )
    assert (scale.label, scale.value, scale.range.text, scale.is_margin) == ("scale", 64.0, "scale > 0", False)
    mix = subject("pml:ArcFaceLoss+0.5*triplet")
    assert [k.label for k in mix.knobs] == ["pml:ArcFaceLoss.margin", "pml:ArcFaceLoss.scale", "triplet.margin"]
    assert [k.label for k in mix.margins] == ["pml:ArcFaceLoss.margin", "triplet.margin"]


def test_a_hyper_parameter_can_be_turned_beyond_its_range_and_found_in_its_part():
    mix = subject("arcface+0.5*triplet")
    margin = mix.knobs[0]
    turned = mix.turned(margin, -7.0)
    assert turned.head().parts[0].margin == -7.0
    assert turned.spec.terms[1] == mix.spec.terms[1]
    assert str(mix.part(mix.knobs[2]).spec) == "triplet"


def test_embeddings_lie_at_the_angles_that_were_asked_for():
    head = subject("arcface").laid_out()
    theta, labels = torch.tensor([0.0, 0.5, 2.0, math.pi]), torch.tensor([0, 1, 2, 3])
    cosines = head.logits(at_angle(head, theta, labels))
    own = torch.nn.functional.one_hot(labels, CLASSES).bool()
    torch.testing.assert_close(cosines[own], theta.double().cos())
    torch.testing.assert_close(cosines[~own], torch.zeros_like(cosines[~own]))


def test_a_loss_leaves_the_head_and_the_global_generator_as_they_were():
    head = subject("elasticface").head()
    x, labels = scene(head)
    before, state = {n: t.clone() for n, t in head.state_dict().items()}, torch.get_rng_state()
    assert loss_of(head, x, labels) == loss_of(head, x, labels)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[n]) for n, t in head.state_dict().items())


@pytest.mark.parametrize("spec", ["arcface", "triplet", "ce+0.5*triplet", "pml:TripletMarginLoss"])
def test_what_computes_in_float64_is_examined_in_it(spec):
    assert not examined(parse_spec(spec, find_plugins())).single
    assert subject(spec).tolerance(1e-9) == 1e-9


def test_a_head_in_float32_takes_float64_and_gives_it_back():
    one = replace(subject("arcface"), single=True)
    head = one.laid_out()
    x, labels = scene(head)
    assert {p.dtype for p in head.parameters()} == {torch.float32}
    assert loss_of(head, x, labels).dtype == torch.float64
    assert head.logits(x).dtype == torch.float32
    assert loss_of(head, x, labels).item() == pytest.approx(
        loss_of(subject("arcface").laid_out(), x, labels).item(), rel=1e-5
    )
    knob = next(k for k in one.knobs if k.name == "margin")
    assert one.turned(knob, 0.4).single
    assert one.tolerance(1e-9) == 1e-4
