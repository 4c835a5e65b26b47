"""Ranges of hyper-parameters: the text that declares them, and that every shipped plugin is held to its own."""

import math

import pytest

from lossbench import heads, load_head
from lossbench.errors import InputError
from lossbench.losses.ranges import Range, parse_ranges
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec

SIZES = {"num_classes": 4, "embedding_dim": 3}
NUMBERS = [(n, p) for n, plugin in heads().items() for p in plugin.parameters if p.type in ("float", "int")]


@pytest.mark.parametrize(
    ("text", "low", "high", "low_is_open", "high_is_open"),
    [
        ("x > 0", 0, math.inf, True, False),
        ("0 < x", 0, math.inf, True, False),
        ("x >= 1", 1, math.inf, False, False),
        ("x <= 2.5", -math.inf, 2.5, False, False),
        ("x < pi", -math.inf, math.pi, False, True),
        ("0 <= x < pi", 0, math.pi, False, True),
        ("1 >= x > -1", -1, 1, True, False),
        ("  -1e3 <= x <= -5  ", -1000, -5, False, False),
        ("x >= 0,", 0, math.inf, False, False),
    ],
)
def test_a_comparison_is_read_as_it_stands(text, low, high, low_is_open, high_is_open):
    found = parse_ranges(text)
    assert list(found) == ["x"]
    assert found["x"][1:] == (low, high, low_is_open, high_is_open)


def test_several_are_separated_by_commas_and_none_is_none():
    assert list(parse_ranges("0 <= margin < pi, scale > 0")) == ["margin", "scale"]
    assert parse_ranges("") == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("scale >", "cannot be read"),
        ("scale", "does not compare one hyper-parameter with numbers"),
        ("scale == 1", "does not compare"),
        ("0 < scale > 1", "does not compare"),
        ("0 < 1", "does not compare"),
        ("low < high", "does not compare"),
        ("0 < low < high", "does not compare"),
        ("scale > math.pi", "does not compare"),
        ("scale > 1e999", "does not compare"),
        ("scale > True", "does not compare"),
        ("scale > {[]}", "does not compare"),
        ("scale > __import__('os').getpid()", "does not compare"),
        ("scale > 0; scale < 1", "cannot be read"),
        ("2 < x < 1", "no number satisfies '2 < x < 1'"),
        ("1 <= x < 1", "no number satisfies"),
        ("x > 0, x < 1", "'x' has two ranges, 'x > 0' and 'x < 1'"),
    ],
)
def test_anything_else_is_refused(text, says):
    with pytest.raises(ValueError, match=r"\A[^\n]*\Z") as error:
        parse_ranges(text)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("x > 0", "above 0"),
        ("0 <= x < pi", "at least 0 and below pi"),
        ("-1 < x <= 0.25", "above -1 and at most 0.25"),
        ("x <= 4", "at most 4"),
    ],
)
def test_a_rule_is_said_in_words(text, rule):
    assert parse_ranges(text)["x"].rule == rule


@pytest.mark.parametrize("value", ["3", None, [1], math.nan])
def test_what_is_no_number_lies_in_no_range(value):
    assert not Range("x > 0", low=0).accepts(value)


def outside(declared: Range, kind: str) -> list[float]:
    """Open ends, and the nearest values beyond closed ones."""

    def beyond(end, is_open, out):
        return end if is_open else int(end + out) if kind == "int" else math.nextafter(end, out * math.inf)

    ends = ((declared.low, declared.low_is_open, -1), (declared.high, declared.high_is_open, 1))
    return [beyond(*end) for end in ends if math.isfinite(end[0])]


def inside(declared: Range, kind: str) -> list[float]:
    """Closed ends, and values just inside open ones."""
    step = 1 if kind == "int" else 1e-9
    low = declared.low + step if declared.low_is_open else declared.low
    high = declared.high - step if declared.high_is_open else declared.high
    return [int(end) if kind == "int" else end for end in (low, high) if math.isfinite(end)]


@pytest.mark.parametrize(("name", "parameter"), NUMBERS, ids=[f"{n}-{p.name}" for n, p in NUMBERS])
def test_every_number_of_a_shipped_plugin_has_a_range_and_is_held_to_it(name, parameter):
    assert parameter.range, f"{name} declares no range for {parameter.name}"
    assert outside(parameter.range, parameter.type)
    for value in outside(parameter.range, parameter.type):
        for refused in (
            lambda value=value: parse_spec(f"{name}:{parameter.name}={value!r}", find_plugins()),
            lambda value=value: load_head(name, **SIZES, **{parameter.name: value}),
        ):
            with pytest.raises(InputError, match=r"\A[^\n]*\Z") as error:
                refused()
            assert str(error.value).startswith(f"{name}'s {parameter.name} is ")
            assert f"it must be {parameter.range.rule} (default " in str(error.value)
    for value in inside(parameter.range, parameter.type):
        load_head(f"{name}:{parameter.name}={value!r}", **SIZES)
        load_head(name, **SIZES, **{parameter.name: value})


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("arcface:scale=-1", "arcface's scale is -1; it must be above 0 (default 64)"),
        ("arcface:margin=-0.1", "arcface's margin is -0.1; it must be at least 0 and below pi (default 0.5)"),
        ("arcface:margin=28.6", "arcface's margin is 28.6; it must be at least 0 and below pi (default 0.5)"),
        ("0.5*triplet:margin=-1+arcface", "triplet's margin is -1; it must be at least 0 and at most 4 (default 0.2)"),
        ("sphereface:margin=0", "sphereface's margin is 0; it must be at least 1 and at most 100 (default 4)"),
        (
            "subcenter_arcface:centers=0",
            "subcenter_arcface's centers is 0; it must be at least 1 and at most 1000 (default 3)",
        ),
        ("sphereface2:balance=1.5", "sphereface2's balance is 1.5; it must be above 0 and below 1 (default 0.7)"),
        ("curricularface:alpha=2", "curricularface's alpha is 2; it must be at least 0 and at most 1 (default 0.01)"),
        ("mv_softmax:t=0.9", "mv_softmax's t is 0.9; it must be at least 1 (default 1.12)"),
        ("elasticface:sigma=-1", "elasticface's sigma is -1; it must be at least 0 (default 0.05)"),
        ("pml:ArcFaceLoss:scale=-1", "pml:ArcFaceLoss's scale is -1; it must be above 0 (default 64)"),
        ("pml:CosFaceLoss:margin=-1", "pml:CosFaceLoss's margin is -1; it must be at least 0 (default 0.35)"),
        ("pml:SphereFaceLoss:margin=0", "pml:SphereFaceLoss's margin is 0; it must be at least 1 (default 4)"),
        ("pml:NTXentLoss:temperature=0", "pml:NTXentLoss's temperature is 0; it must be above 0 (default 0.07)"),
    ],
)
def test_an_impossible_value_is_one_line_with_value_rule_and_default(spec, says):
    with pytest.raises(InputError) as error:
        parse_spec(spec, find_plugins())
    assert str(error.value) == says
