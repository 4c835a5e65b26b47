"""Specs: what a user types for one entrant."""

import pytest
from support import FORWARD, plugin

from lossbench.errors import InputError
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_losses, parse_spec, spelled_out


def parse(text):
    return parse_spec(text, find_plugins())


def test_values_have_the_types_of_the_signature(tmp_path):
    assert parse("arcface:margin=0:scale=32").terms[0].values == {"margin": 0.0, "scale": 32.0}
    assert type(parse("sphereface:margin=3").terms[0].values["margin"]) is int
    file = plugin(tmp_path, "mine", FORWARD, ", *, hard: bool = False, kind: str = 'a', limit: float | None = None")
    assert parse(f"{file}:hard=True:kind=b:limit=2").terms[0].values == {"hard": True, "kind": "b", "limit": 2.0}


def test_two_spellings_of_one_entrant_agree():
    assert str(parse("arcface:scale=64:margin=0.5")) == "arcface"
    assert str(parse("arcface:scale=32:margin=0.30")) == str(parse("arcface:margin=.3:scale=3.2e+1"))
    assert str(parse("arcface + 0.50*triplet")) == "arcface+0.5*triplet"


def test_a_default_that_is_an_expression_stays_as_typed(tmp_path):
    file = plugin(tmp_path, "mine", FORWARD, ", *, bound: float = 1 / 4")
    assert str(parse(f"{file}:bound=0.25")) == "mine:bound=0.25"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arcfce", "no loss called 'arcfce'; did you mean 'arcface'?"),
        ("arcface:margn=0.3", "no hyper-parameter 'margn'; did you mean 'margin'? It takes: margin=0.5, scale=64.0"),
        ("arcface:zzz=0.3", "no hyper-parameter 'zzz'; it takes: margin=0.5, scale=64.0"),
        ("arcface:margin=abc", "arcface's margin must be a number, not 'abc'"),
        ("arcface:margin=nan", "must be finite"),
        ("arcface:scale=inf", "must be finite"),
        ("arcface:margin", "must be margin=VALUE"),
        ("arcface:margin=1:margin=2", "must be margin=VALUE, once"),
        ("sphereface:margin=1.5", "sphereface's margin must be a whole number, not '1.5'"),
        ("arcface:scale=-1", "arcface's scale is -1; it must be above 0 (default 64)"),
        ("ce:margin=1", "ce has no hyper-parameter 'margin'; it takes: no hyper-parameters"),
        ("-1*ce+arcface", "the weight -1 in '-1*ce' must be above 0"),
        ("x*ce", "the weight in 'x*ce' must be a number, not 'x'"),
        ("./nowhere.py", "no plugin file"),
        ("untrained", "no loss called 'untrained'"),
        ("", "lacks a loss"),
        ("arcface+0.5*", "'0.5*' names no loss; write one, as in 0.5*triplet"),
        (":margin=0.3", "':margin=0.3' names no loss"),
    ],
)
def test_a_bad_spec_names_value_rule_and_cure_in_one_line(text, says):
    with pytest.raises(InputError, match=r"\A[^\n]*\Z") as error:
        parse(text)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("extra", "setting", "says"),
    [
        (", *, hard: bool = False", "hard=1", "mine's hard must be true or false, not '1'"),
        (", *, needed: float", "", "mine needs a value for 'needed': write mine:needed=VALUE"),
    ],
)
def test_a_bad_setting_of_a_plugin_file_is_one_line(tmp_path, extra, setting, says):
    with pytest.raises(InputError, match=r"\A[^\n]*\Z") as error:
        parse(f"{plugin(tmp_path, 'mine', FORWARD, extra)}{setting and ':' + setting}")
    assert says in str(error.value)


def test_an_entrant_named_twice_is_refused():
    with pytest.raises(InputError, match="'arcface' twice"):
        parse_losses("arcface,ce,arcface:margin=0.5", find_plugins())


def test_all_stands_for_every_known_loss_the_baseline_first(tmp_path):
    known = find_plugins()
    names = [str(spec) for spec in parse_losses(spelled_out("all, arcface:margin=0.3", known), known)]
    assert names[0] == "ce"
    assert sorted(names) == sorted([*known, "arcface:margin=0.3"])
    with pytest.raises(InputError, match="'arcface' twice"):
        parse_losses(spelled_out("arcface,all", known), known)


def test_no_loss_at_all_is_refused():
    with pytest.raises(InputError, match="names no loss"):
        parse_losses(" , ", find_plugins())


def test_two_files_of_one_name_are_refused(tmp_path):
    files = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        files.append(plugin(tmp_path / folder, "mine", FORWARD))
    with pytest.raises(InputError, match="two plugins are called 'mine'"):
        parse_losses(",".join(files), find_plugins())
    arcface = plugin(tmp_path, "arcface", FORWARD)
    with pytest.raises(InputError, match="two plugins are called 'arcface'"):
        parse(arcface)
