"""Building heads from specs."""

import pytest

from lossbench.errors import InputError
from lossbench.losses.loading import hyperparameters, load_head, trial_head
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec

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


def test_a_spec_sets_hyper_parameters():
    head = load_head("arcface:margin=0.3:scale=32", **SIZES)
    assert (head.margin, head.scale) == (0.3, 32.0)
    assert load_head("sphereface:margin=3", **SIZES).margin == 3


def test_keywords_win_over_the_spec_and_are_held_to_the_ranges():
    head = load_head("arcface:margin=0.3", **SIZES, margin=0.4, scale=16)
    assert (head.margin, head.scale) == (0.4, 16)
    with pytest.raises(InputError, match=r"^arcface's scale is -1; it must be above 0 \(default 64\)$"):
        load_head("arcface", **SIZES, scale=-1)
    with pytest.raises(InputError, match=r"^arcface's margin is '0.3'; it must be at least 0 and below pi"):
        load_head("arcface", **SIZES, margin="0.3")


def test_keywords_do_not_say_which_part_of_a_mix_they_mean():
    with pytest.raises(InputError, match="is a mix; put its hyper-parameters into the spec"):
        load_head("arcface+triplet", **SIZES, margin=0.3)


def test_hyper_parameters_are_recorded_with_defaults():
    assert hyperparameters(parse("arcface:margin=0.3")) == {"margin": 0.3, "scale": 64.0}
    assert hyperparameters(parse("ce+0.5*arcface")) == {
        "ce.weight": 1.0, "arcface.margin": 0.5, "arcface.scale": 64.0, "arcface.weight": 0.5,
    }  # fmt: skip


def test_a_plugin_file_and_a_plugin_folder(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    head = load_head(f"{tmp_path}/mine.py:hard=true", **SIZES)
    assert type(head).__name__ == "Mine"
    assert head.hard is True
    assert load_head("mine:margin=0.7", plugins=[tmp_path], **SIZES).margin == 0.7


def test_a_changed_plugin_file_is_read_again(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(PLUGIN)
    assert load_head(str(file), **SIZES).margin == 0.1
    file.write_text(PLUGIN.replace("margin: float = 0.1", "margin: float = 0.2"))
    assert load_head(str(file), **SIZES).margin == 0.2


@pytest.mark.parametrize("name", sorted(find_plugins()))
def test_every_shipped_loss_can_be_tried(name):
    trial_head(parse(name))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (PLUGIN + "class Other(Head):\n    pass\n", "it defines Mine, Other"),
        (PLUGIN.replace("Mine(Head)", "Mine(nn.Module)"), "exactly one public Head subclass; it defines none"),
        ("import nowhere_to_be_found\n" + PLUGIN, "fails on import: ModuleNotFoundError"),
        ("import sys; sys.exit(5)\n" + PLUGIN, "fails on import: SystemExit: 5"),
        (PLUGIN.replace("*, margin", "extra, *, margin"), "cannot be built"),
        (PLUGIN.replace("super().__init__()", "super().__init__(); raise SystemExit(5)"), "SystemExit: 5"),
        (PLUGIN.replace("super().__init__()", "super().__init__(); assert margin > 1"), "AssertionError"),
        (PLUGIN.replace("margin: float = 0.1", "margin: float"), "needs a value for 'margin'"),
        (PLUGIN.replace("    def", '    ranges = "margin > 1"\n    def', 1), "excludes the default, 0.1"),
    ],
)
def test_a_plugin_that_cannot_be_built_says_so_in_one_line(tmp_path, source, says):
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(InputError, match=r"\A[^\n]*mine[^\n]*\Z") as error:
        load_head(f"{tmp_path}/mine.py", **SIZES)
    assert says in str(error.value)
