"""Every shipped head satisfies the contract, and every planted bug is caught under its name."""

from functools import cache
from pathlib import Path

import pytest

from lossbench import heads
from lossbench.conformance.check import check
from lossbench.losses.plugin import describe
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec

PLANTED = sorted((Path(__file__).parent / "planted").glob("*.py"))


@cache
def findings(text: str, names=None):
    spec = parse_spec(text, find_plugins())
    return list(check(spec, only=lambda p: not p.slow if names is None else p.name in names))


@pytest.mark.parametrize("name", sorted(heads()))
def test_a_shipped_head_satisfies_the_contract(name):
    broken = [f"{f.name}: {f.figure}" for f in findings(name) if f.status == "fail"]
    assert not broken


@pytest.mark.parametrize("path", PLANTED, ids=lambda p: p.stem)
def test_a_planted_bug_is_caught_and_named(path):
    """The docstring of the plugin says which property must fail; nothing that comes before may hide it."""
    want = describe(path).reference.split("Caught as: ")[1].rstrip(".")
    assert want in [f.name for f in findings(str(path)) if f.status == "fail"]


def test_only_declared_exceptions_are_by_design():
    """Losses whose gradient is not their derivative say what they hold constant; no other may hide behind it."""
    by_design = {n for n in heads() if any("by design" in f.figure for f in findings(n))}
    assert by_design == {"adaface", "circle"}


def test_a_plugin_that_raises_fails_line_by_line(tmp_path):
    path = tmp_path / "raises.py"
    path.write_text(
        "from lossbench import Head\n\n\nclass Raises(Head):\n    def __init__(self, num_classes, embedding_dim):\n"
        "        super().__init__()\n\n    def forward(self, embeddings, labels):\n        raise KeyError('mine')\n"
    )
    found = findings(str(path), ("one number", "a batch of one"))
    assert [f.status for f in found] == ["fail", "fail"]
    assert all("KeyError: 'mine'" in f.figure for f in found)
