"""Finding plugins, parsing specs, building heads."""

import subprocess
import sys
import textwrap

import pytest

import lossbench
from lossbench.errors import InputError
from lossbench.losses.loading import hyperparameters, load_head, plugin_fingerprint
from lossbench.losses.registry import find_plugins, shipped_plugins
from lossbench.losses.spec import parse_losses, parse_spec

SIZES = {"num_classes": 4, "embedding_dim": 3}
PLUGIN = '''
"""Mine."""
import torch
from torch import nn
from lossbench import Head, margin_softmax

class Mine(Head):
    """One line."""
    def __init__(self, num_classes: int, embedding_dim: int, *, margin: float = 0.1, hard: bool = False):
        super().__init__()
        self.margin, self.hard = margin, hard
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings, labels):
        return margin_softmax(embeddings, self.weight, labels, lambda c: c - self.margin, 16.0)
'''


def parse(text):
    return parse_spec(text, find_plugins())


def test_shipped_losses_are_listed_by_file_stem():
    assert {"ce", "arcface", "cosface", "sphereface", "triplet", "arcface_triplet"} <= set(lossbench.heads())


def test_a_spec_sets_hyper_parameters_with_their_types():
    head = lossbench.load_head("arcface:margin=0.3:scale=32", **SIZES)
    assert (head.margin, head.scale) == (0.3, 32.0)
    assert lossbench.load_head("sphereface:margin=3", **SIZES).margin == 3
    assert hyperparameters(parse("arcface:margin=0.3")) == {"margin": 0.3, "scale": 64.0}


def test_two_spellings_of_one_entrant_agree():
    assert str(parse("arcface:scale=64:margin=0.5")) == "arcface"
    assert str(parse("arcface:scale=32:margin=0.30")) == str(parse("arcface:margin=.3:scale=3.2e+1"))
    assert str(parse("arcface + 0.50*triplet")) == "arcface+0.5*triplet"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("arcfce", "no loss called 'arcfce'; did you mean 'arcface'?"),
        ("arcface:margn=0.3", "no hyper-parameter 'margn'; did you mean 'margin'?"),
        ("arcface:margin=abc", "arcface's margin is a number, not 'abc'"),
        ("arcface:margin=nan", "must be finite"),
        ("arcface:margin", "should be margin=VALUE"),
        ("arcface:margin=1:margin=2", "should be margin=VALUE, once"),
        ("sphereface:margin=1.5", "whole number"),
        ("ce:margin=1", "ce has no hyper-parameter 'margin'"),
        ("-1*ce+arcface", "not positive"),
        ("./nowhere.py", "no plugin file"),
        ("untrained", "no loss called 'untrained'"),
        ("", "no loss called ''"),
    ],
)
def test_a_bad_spec_names_value_rule_and_cure_in_one_line(text, says):
    with pytest.raises(InputError, match=r"\A[^\n]*\Z") as error:
        parse(text)
    assert says in str(error.value)


def test_an_entrant_named_twice_is_refused():
    with pytest.raises(InputError, match="'arcface' twice"):
        parse_losses("arcface,ce,arcface:margin=0.5", find_plugins())


def test_a_plugin_file_and_a_plugin_folder(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    head = lossbench.load_head(f"{tmp_path}/mine.py:hard=true", **SIZES)
    assert type(head).__name__ == "Mine"
    assert head.hard is True
    assert "mine" in find_plugins([tmp_path])
    assert lossbench.load_head("mine:margin=0.7", plugins=[tmp_path], **SIZES).margin == 0.7


def test_a_changed_plugin_file_is_read_again_and_changes_its_fingerprint(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    before = lossbench.load_head(str(file), **SIZES)
    file.write_text(PLUGIN.replace("margin: float = 0.1", "margin: float = 0.2"))
    after = lossbench.load_head(str(file), **SIZES)
    assert (before.margin, after.margin) == (0.1, 0.2)
    assert plugin_fingerprint(after) != plugin_fingerprint(lossbench.load_head("ce", **SIZES))


def test_a_mix_is_fingerprinted_by_all_of_its_files():
    arcface, triplet = (lossbench.load_head(name, **SIZES) for name in ("arcface", "triplet"))
    named, typed = (lossbench.load_head(name, **SIZES) for name in ("arcface_triplet", "arcface+triplet"))
    assert len({plugin_fingerprint(head) for head in (arcface, triplet, named, typed)}) == 4


def test_two_plugins_of_one_name_are_an_error_that_names_both(tmp_path):
    (tmp_path / "arcface.py").write_text(PLUGIN)
    with pytest.raises(InputError) as error:
        find_plugins([tmp_path])
    assert str(tmp_path / "arcface.py") in str(error.value)
    assert "plugins/arcface.py" in str(error.value)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("x = 1", "exactly one public Head subclass; it defines none"),
        (PLUGIN + "class Other(Head):\n    pass\n", "it defines Mine, Other"),
        ("class Mine(Head:", "cannot be read"),
        ("import nowhere_to_be_found\n" + PLUGIN, "fails on import: ModuleNotFoundError"),
        (PLUGIN.replace("*, margin", "extra, *, margin"), "cannot be built"),
        (PLUGIN.replace("margin: float = 0.1", "margin: float"), "needs a value for 'margin'"),
    ],
)
def test_a_plugin_that_is_none_says_so_in_one_line(tmp_path, source, says):
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(InputError, match=r"\A[^\n]*\Z") as error:
        lossbench.load_head(f"{tmp_path}/mine.py", **SIZES)
    assert says in str(error.value)


def test_listing_runs_no_plugin_and_imports_no_torch(tmp_path):
    (tmp_path / "mine.py").write_text("raise SystemExit('I was run')\n" + PLUGIN)
    script = f"""
        import sys, lossbench
        assert lossbench.heads(["{tmp_path}"])["mine"].parameters[0].default == "0.1"
        assert "torch" not in sys.modules and "numpy" not in sys.modules
        print("listed")
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert done.stdout == "listed\n", done.stderr


@pytest.mark.parametrize("where", ["import", "init"])
def test_a_plugin_that_exits_says_so_in_one_line(tmp_path, where):
    line = "import sys; sys.exit(5)"
    source = (
        f"{line}\n{PLUGIN}"
        if where == "import"
        else PLUGIN.replace("super().__init__()", f"super().__init__(); {line}")
    )
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(InputError, match=r"\A[^\n]*mine[^\n]*SystemExit: 5[^\n]*\Z"):
        lossbench.load_head(f"{tmp_path}/mine.py", **SIZES)


def test_a_folder_called_torch_hides_no_change(tmp_path):
    path = tmp_path / "torch" / "mine.py"
    path.parent.mkdir()
    found = []
    for text in ("", "# changed\n"):
        path.write_text((shipped_plugins() / "cosface.py").read_text() + text)
        found.append(plugin_fingerprint(load_head(str(path), num_classes=4, embedding_dim=8)))
    assert found[0] != found[1]
