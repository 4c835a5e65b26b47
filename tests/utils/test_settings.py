"""Settings as dataclasses declare them: what follows from a declaration, and what is refused."""

from dataclasses import dataclass

import pytest

from lossbench.errors import InputError
from lossbench.utils.settings import build, check, declare, read_list, settings_of


@dataclass(frozen=True)
class Options:
    size: int = declare(3, low=2, high=5, help="Of it.")
    share: float | None = declare(None, low=0.0, high=0.5, help="Of all.", default_text="as needed")
    kind: str = declare("a", choices=("a", "b"), help="Which.", group="Kinds", touches="nothing")
    folders: tuple[str, ...] = declare((), help="Where.", path=True)


def test_a_declaration_carries_name_type_and_default():
    size, share, kind, folders = settings_of(Options)
    assert (size.name, size.kind, size.default, size.repeats, size.option) == ("size", int, 3, False, "--size")
    assert (share.kind, share.default, share.default_text) == (float, None, "as needed")
    assert (kind.choices, kind.group, kind.touches) == (("a", "b"), "Kinds", "nothing")
    assert (folders.kind, folders.repeats, folders.path) == (str, True, True)


@pytest.mark.parametrize("given", [{}, {"size": 2}, {"size": 5}, {"share": 0.0}, {"share": 0.5}, {"kind": "b"}])
def test_values_that_fit_pass(given):
    assert build(Options, given | {"another": 1}) == Options(**given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"size": 1}, "--size 1 is out of range; use 2 to 5"),
        ({"size": 6}, "--size 6 is out of range; use 2 to 5"),
        ({"share": 0.51}, "--share 0.51 is out of range; use 0.0 to 0.5"),
        ({"share": float("nan")}, "--share nan is out of range"),
        ({"kind": "c"}, "--kind 'c' is not known; use 'a' or 'b'"),
        ({"folders": ("here", "x" * 300)}, r"--folders 'x{80}\.\.\.' is longer than a file name or a path can be"),
        ({"folders": ("a\0b",)}, "--folders 'a.x00b' holds a null character"),
    ],
)
def test_values_that_do_not_fit_are_one_line(given, says):
    with pytest.raises(InputError, match=rf"\A{says}[^\n]*\Z"):
        build(Options, given)


def test_a_field_that_is_not_declared_is_refused():
    @dataclass(frozen=True)
    class Forgetful(Options):
        forgotten: int = 3

    with pytest.raises(TypeError, match=r"Forgetful\.forgotten is not declared"):
        settings_of(Forgetful)
    with pytest.raises(TypeError, match="forgotten"):
        check(Forgetful())


@dataclass(frozen=True)
class Rates:
    rates: tuple[float, ...] = declare((), low=0.0, high=0.5, help="Of all.")
    counts: tuple[int, ...] = declare((1,), help="Of some.")


def test_a_list_of_numbers_is_typed_with_commas():
    rates, counts = settings_of(Rates)
    assert [one.is_list for one in (rates, counts, *settings_of(Options))] == [True, True, False, False, False, False]
    assert read_list(rates, "1e-3, 0.5,.25") == (0.001, 0.5, 0.25)
    assert read_list(counts, "3") == (3,)
    check(Rates(rates=(0.0, 0.5)))
    with pytest.raises(InputError, match=r"\A--rates 0.51 is out of range; use 0.0 to 0.5\Z"):
        check(Rates(rates=(0.1, 0.51)))


@pytest.mark.parametrize("text", ["", "a", "0.1;0.2", "0.1 0.2", "1,a"])
def test_what_is_no_list_of_numbers_is_one_line(text):
    with pytest.raises(InputError, match=r"\A--rates '[^\n]*' is no list of numbers; write 0.01,0.001\Z"):
        read_list(settings_of(Rates)[0], text)


@pytest.mark.parametrize(("text", "item"), [("0.1,", "2 of 2"), ("1,,2", "2 of 3"), (" ,1", "1 of 2")])
def test_an_empty_item_of_a_list_of_numbers_is_named(text, item):
    with pytest.raises(InputError, match=rf"\A--rates '{text}': item {item} is empty; drop a comma, or write what is"):
        read_list(settings_of(Rates)[0], text)
