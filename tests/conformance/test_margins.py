"""What a margin must do, and the unit it is in."""

import re
from pathlib import Path

import pytest
from support import FORWARD, plugin, subject

from lossbench.conformance.margins import in_radians, larger_margin, no_jump, plain_at_zero, units
from lossbench.conformance.property import Broken, Skipped
from lossbench.losses.head import Mix
from lossbench.losses.loading import trial_head
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec

CONVERTED = (Path(__file__).parent / "planted" / "degrees_converted.py").read_text()
DEGREES = re.sub(r"    ranges = .*\n", "", CONVERTED).replace("0.5", "28.6")


@pytest.fixture
def declared(tmp_path):
    """A loss that takes degrees and says so."""
    path = tmp_path / "declared.py"
    path.write_text(DEGREES.replace("(Head):\n", "(Head):\n    margin_in_degrees = True\n\n"))
    return str(path)


@pytest.mark.parametrize(
    ("spec", "want"),
    [
        ("arcface", {"margin": "radians"}),
        ("elasticface", {"margin": "radians"}),
        ("cosface", {}),
        ("triplet", {}),
        ("pml:ArcFaceLoss", {"margin": "degrees"}),
        ("pml:ArcFaceLoss+0.5*triplet", {"pml:ArcFaceLoss.margin": "degrees"}),
        ("arcface+pml:TupletMarginLoss", {"arcface.margin": "radians", "pml:TupletMarginLoss.margin": "degrees"}),
    ],
)
def test_the_unit_of_every_margin_is_declared_or_measured(spec, want):
    assert units(subject(spec)) == want


def test_a_mix_may_hold_degrees_that_are_declared(declared):
    assert in_radians.measure(subject(declared)) == "margin: degrees"
    assert in_radians.measure(subject(f"{declared}+0.5*triplet")) == "declared.margin: degrees"
    assert in_radians.measure(subject(f"0.5*triplet+{declared}")) == "declared.margin: degrees"


def test_what_one_part_declares_excuses_no_other(declared, tmp_path):
    (tmp_path / "degrees.py").write_text(DEGREES)
    with pytest.raises(Broken, match=r"^degrees.margin = 28.6 is taken as degrees \(0.499 radians\)$"):
        in_radians.measure(subject(f"{declared}+{tmp_path}/degrees.py"))


def test_a_mix_declares_what_its_parts_declare(declared):
    for spec, want in (("arcface+0.5*triplet", False), (f"arcface+0.5*{declared}", True)):
        head = trial_head(parse_spec(spec, find_plugins()))
        assert isinstance(head, Mix)
        assert head.margin_in_degrees is want


def test_a_margin_near_its_end_is_enlarged_within_its_range():
    assert larger_margin.measure(subject("cosface:margin=1.9")).startswith("margin: the loss rises by ")
    with pytest.raises(Skipped, match="no margin may be larger"):
        larger_margin.measure(subject("cosface:margin=2"))
    with pytest.raises(Skipped, match="is a margin by its name"):
        larger_margin.measure(subject("ce"))


def test_a_plain_point_that_names_no_hyper_parameter_is_named(tmp_path):
    file = plugin(tmp_path, "mine", '    plain_at = "m=0"\n' + FORWARD, ", *, margin: float = 0.1")
    with pytest.raises(Broken, match=r"^plain_at names m, which is no hyper-parameter$"):
        plain_at_zero.measure(subject(file))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("cosface", r"no change of more than \de-08 at any one angle"),
        ("arcface", r"at 151.4 degrees the loss jumps by 7.51, \d+% of all that it falls"),
    ],
)
def test_the_size_and_place_of_a_jump_are_measured(spec, says):
    """ArcFace's fall-back, from -1 to cos(pi - 0.5) - 0.5 sin 0.5: 64 times 0.1173."""
    assert re.fullmatch(says, no_jump.measure(subject(spec)))


def test_without_centers_there_is_no_angle_to_jump_at():
    with pytest.raises(Skipped, match="no class centers"):
        no_jump.measure(subject("triplet"))
