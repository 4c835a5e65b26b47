"""Plain twins: a margin loss without its margin."""

import pytest

from lossbench.losses.plain_twin import plain_twin, with_twins
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_losses, parse_spec


@pytest.mark.parametrize(
    ("spec", "twin"),
    [
        ("arcface", "arcface:margin=0.0"),
        ("arcface:margin=0.3:scale=32", "arcface:margin=0.0:scale=32.0"),
        ("combined_margin:m1=0.9:scale=30", "combined_margin:m2=0.0:m3=0.0:scale=30.0"),
        ("sphereface", "sphereface:margin=1"),
        ("arcface:margin=0", None),
        ("ce", None),
        ("normface", None),
        ("triplet", None),
        ("arcface+0.5*triplet", None),
    ],
)
def test_plain_twins(spec, twin):
    found = plain_twin(parse_spec(spec, find_plugins()))
    assert (str(found) if found else None) == twin


@pytest.mark.parametrize("name", sorted(find_plugins()))
def test_what_a_shipped_loss_calls_plain_lies_in_its_ranges(name):
    plain_twin(parse_spec(name, find_plugins()))


def test_no_entrant_takes_part_twice():
    known = find_plugins()
    specs = with_twins(parse_losses("arcface,ce,arcface:margin=0", known), known)
    assert [str(spec) for spec in specs] == ["ce", "arcface", "arcface:margin=0.0"]
