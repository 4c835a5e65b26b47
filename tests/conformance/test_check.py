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
    """The docstring of the plugin says which property must fail."""
    want = describe(path).reference.split("Caught as: ")[1].rstrip(".")
    assert want in [f.name for f in findings(str(path), (want,)) if f.status == "fail"]


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


_SINGLE = """import math
import torch
import torch.nn.functional as F
from torch import nn
from lossbench import Head


class Single(Head):
    def __init__(self, num_classes, embedding_dim, *, margin: float = 0.5, scale: float = 32.0{unused}):
        super().__init__()
        self.margin, self.scale = margin, scale
        self.weight = nn.Parameter(torch.randn(num_classes, embedding_dim))

    def forward(self, embeddings, labels):
        x, w = {casts}
        cos = (F.normalize(x, dim=1)[:, None] * F.normalize(w, dim=1)).sum(2)  # autocast leaves it alone
        own = cos.gather(1, labels[:, None])
        sin = (1 - own ** 2).clamp_min(1e-7).sqrt()
        near = own * math.cos(self.margin) - sin * math.sin(self.margin)
        far = own - self.margin * math.sin(self.margin)
        pushed = torch.where(own > -math.cos(self.margin), near, far)
        return F.cross_entropy(self.scale * cos.scatter(1, labels[:, None], {pushed}), labels){end}
"""
_CASTS = [
    ("embeddings.float(), self.weight", ""),
    ("embeddings.float(), self.weight.float()", ""),
    ("embeddings.float(), self.weight.float()", ".double()"),
    ("embeddings.float().to(self.weight.dtype), self.weight", ".double()"),
]


def single(tmp_path, casts=_CASTS[0][0], end="", pushed="pushed", unused=""):
    (tmp_path / "single.py").write_text(_SINGLE.format(casts=casts, end=end, pushed=pushed, unused=unused))
    return str(tmp_path / "single.py")


@pytest.mark.parametrize(("casts", "end"), _CASTS)
def test_a_sound_loss_in_float32_passes_at_that_precision_and_one_line_says_so(tmp_path, casts, end):
    first, *others = findings(single(tmp_path, casts, end))
    assert (first.name, first.status) == ("precision", "pass")
    assert first.figure.startswith("computes in float32")
    assert [f for f in others if f.status == "fail"] == []
    assert {f.name for f in others if f.status == "skip"} == {
        "margin 0 is the plain softmax",
        "finite at the ends of its ranges",
    }


@pytest.mark.parametrize(
    ("bug", "name"),
    [
        ({"pushed": "pushed.detach()"}, "gradient is the loss's derivative"),
        ({"pushed": "own - 1 + self.margin"}, "a larger margin asks for more"),
        ({"pushed": "torch.where(own > -0.8, pushed, pushed - 9)"}, "no jump with the own angle"),
        ({"unused": ", share: float = 1.0"}, "every hyper-parameter matters"),
    ],
)
def test_bugs_are_found_in_float32_too(tmp_path, bug, name):
    assert [f.name for f in findings(single(tmp_path, **bug)) if f.status == "fail"] == [name]


def test_a_loss_in_float64_is_measured_in_it():
    assert [f.name for f in findings("arcface", ("one number",))] == ["one number"]
