"""Plugin files as such: names, source text, execution, fingerprints, templates."""

import hashlib
import os
import sys
from pathlib import Path

import pytest
from support import FORWARD, plugin

from lossbench.errors import InputError
from lossbench.losses.loading import load_head, trial_head
from lossbench.losses.registry import find_plugins, shipped_plugins
from lossbench.losses.spec import parse_spec
from lossbench.utils.plugin_file import (
    executed,
    is_plugin_file,
    plugin_files,
    plugin_fingerprint,
    public_classes,
    read_source,
    refuse_name,
    write_template,
)

SIZES = {"num_classes": 4, "embedding_dim": 3}


def parse(text):
    return parse_spec(text, find_plugins())


def test_a_path_is_told_from_a_name():
    assert all(map(is_plugin_file, ("mine.py", "./mine", "../mine.py")))
    assert not any(map(is_plugin_file, ("arcface", "timm:vit_tiny_patch16_224")))


@pytest.mark.parametrize("name", ["My", "my-loss", "2fast", "", "untrained"])
def test_what_cannot_name_a_plugin(name):
    with pytest.raises(InputError, match=f"'{name}' cannot name a loss; use .* such as my_loss .'untrained' is reserv"):
        refuse_name(name, "loss", reserved="untrained")


def test_what_can_name_a_plugin():
    for name in ("a", "my_loss2"):
        refuse_name(name, "loss", reserved="untrained")
    refuse_name("untrained", "network")


def test_source_is_read_and_not_executed(tmp_path):
    (tmp_path / "mine.py").write_text("class A(B): ...\nclass _C(B): ...\nclass D: ...\nraise SystemExit\n")
    assert [one.name for one in public_classes(read_source(tmp_path / "mine.py", "--losses"))] == ["A"]


def test_a_file_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(InputError, match=r"\Ano plugin file '.*nowhere.py'; a path in --backbone leads to [^\n]*\Z"):
        read_source(tmp_path / "nowhere.py", "--backbone")


def test_a_plugin_that_fails_on_import_leaves_no_module(tmp_path):
    (tmp_path / "mine.py").write_text("raise SystemExit(5)")
    before = set(sys.modules)
    with pytest.raises(InputError, match=r"\Aplugin [^\n]*mine.py fails on import: SystemExit: 5\Z"):
        executed(tmp_path / "mine.py", "mine")
    assert set(sys.modules) == before


def test_a_plugin_file_runs_once_until_it_changes_even_within_a_second(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)  # bytecode of the first would fit the second
    path = tmp_path / "mine.py"
    path.write_text("x = object()")
    written = path.stat()
    first, second = (executed(path, "mine") for _ in range(2))
    assert first is second
    path.write_text("y = object()")
    os.utime(path, ns=(written.st_atime_ns, written.st_mtime_ns))
    assert not hasattr(executed(path, "mine"), "x")


def files_of(spec: str) -> set[str]:
    return {path.name for path in plugin_files(trial_head(parse(spec)))}


def test_a_fingerprint_covers_plugin_files_alone():
    """Neither abc.py, from which Head derives, nor torch, pytorch-metric-learning or lossbench's own head.py."""
    assert files_of("ce") == {"ce.py"}
    assert files_of("triplet") == {"triplet.py"}  # a loss and a miner of pytorch-metric-learning inside
    assert files_of("arcface+0.5*triplet") == {"arcface.py", "triplet.py"}
    assert files_of("arcface_triplet") == {"arcface_triplet.py", "arcface.py", "triplet.py"}
    assert files_of("pml:ArcFaceLoss") == set()
    assert files_of("pml:ArcFaceLoss+triplet") == {"triplet.py"}


def test_a_fingerprint_is_the_hash_of_the_files_hashes():
    source = (shipped_plugins() / "ce.py").read_bytes()
    want = hashlib.sha256(hashlib.sha256(source).hexdigest().encode()).hexdigest()
    assert plugin_fingerprint(trial_head(parse("ce"))) == want


def test_base_classes_and_layers_from_other_files_count(tmp_path, monkeypatch):
    (tmp_path / "my_layers_for_a_test.py").write_text("from torch import nn\n\n\nclass Scale(nn.Module): ...\n")
    path = Path(plugin(tmp_path, "mine", FORWARD))
    source = path.read_text().replace("super().__init__()", "super().__init__(); self.layer = Scale()")
    path.write_text(f"from my_layers_for_a_test import Scale\n{source}")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert files_of(f"{tmp_path}/mine.py") == {"mine.py", "my_layers_for_a_test.py"}


def test_a_mix_is_fingerprinted_by_all_of_its_files():
    specs = ("arcface", "triplet", "arcface_triplet", "arcface+triplet")
    assert len({plugin_fingerprint(trial_head(parse(spec))) for spec in specs}) == 4


@pytest.mark.parametrize("folder", ["", "torch", "lossbench"])
def test_a_changed_file_has_another_fingerprint_whatever_its_folder_is_called(tmp_path, folder):
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    found = []
    for text in ("", "# changed\n"):
        path = plugin(place, "mine", FORWARD + text)
        found.append(plugin_fingerprint(load_head(str(path), **SIZES)))
    assert found[0] != found[1]


def test_a_template_is_written_once(tmp_path):
    path = write_template("two_words", tmp_path, "class {title}: ...  # {}\n", "network")
    assert path.read_text() == "class TwoWords: ...  # {}\n"
    with pytest.raises(InputError, match=r"two_words\.py exists already; choose another name, or remove it"):
        write_template("two_words", tmp_path, "", "network")
    with pytest.raises(InputError, match="'class' cannot name a network: it is a word of Python"):
        write_template("class", tmp_path, "", "network")
