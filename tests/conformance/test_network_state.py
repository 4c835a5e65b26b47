"""State of a backbone in training, in evaluation and saved: each fault is caught under its name."""

import re
from dataclasses import replace

import pytest
from support import network

from lossbench.conformance.check import NETWORK_PROPERTIES, check_network, measured
from lossbench.conformance.network import network_of

AT = "        self.dropout ="  # a line of the constructor, to put others before


def found(path):
    return {f.name: f for f in check_network(path)}


@pytest.mark.parametrize(
    ("part", "other", "name", "says"),
    [
        (
            AT,
            "        self.unused = nn.Linear(2, 2)\n" + AT,
            "gradients reach every parameter",
            "none reaches 2 of 18 parameter tensors: unused.weight, unused.bias",
        ),
        (
            "self.blocks(2 * images - 1)",
            "self.blocks(2 * images - 1).detach()",
            "gradients reach every parameter",
            "none reaches 14 of 16 parameter tensors: blocks.0",
        ),
        (
            "    def forward(self, images",
            "    def train(self, mode=True):\n        return self\n\n    def forward(self, images",
            "train and eval switch",
            r"after eval\(\), the network, blocks, blocks.0, ... is still in the other mode",
        ),
        (
            "self.dropout(self",
            "nn.functional.dropout(self",
            "evaluation changes nothing",
            "it draws random numbers; is dropout called with training=self.training",
        ),
        (
            "(self, images):\n",
            "(self, images):\n        self.blocks[0].residual[1].num_batches_tracked += 1\n",
            "evaluation changes nothing",
            "num_batches_tracked changes; update a state in training only",
        ),
        (
            "        return self.embedding(",
            "        self.__dict__['calls'] = self.__dict__.get('calls', 0) + 1\n"
            "        return self.calls * self.embedding(",
            "evaluation changes nothing",
            "the same images give embeddings that differ by",
        ),
        ("- 1)))", "- 1))) * images.std()", "images are independent", "alone, an image's embedding differs by"),
        (
            AT,
            "        self.blocks[0].shortcut.weight.data *= __import__('random').random()\n" + AT,
            "a seed decides everything",
            "the same torch.manual_seed gives other values of blocks.0.shortcut.weight; draw from torch alone",
        ),
        (
            "self.dropout(self",
            "(1 + 0.1 * self.training * __import__('numpy').random.rand()) * self.dropout(self",
            "a seed decides everything",
            "training twice from the same seed gives other values",
        ),
        (
            "embedding_dim)\n",
            "embedding_dim)\n        [nn.init.constant_(p, 0.1) for p in self.parameters()]\n",
            "a seed decides everything",
            "another seed gives the same weights",
        ),
        ("self.dropout(self", "(self", "dropout acts", "--dropout 0.5 changes nothing in training"),
        (
            "        return self.embedding(",
            "        if self.training:\n            self.scale = images.mean().item()\n"
            "        return getattr(self, 'scale', 1) * self.embedding(",
            "weights are the whole state",
            "restored, embeddings differ by .*; keep every state in parameters or buffers",
        ),
        (
            "        return self.embedding(",
            "        size = len(images), self.embedding.out_features\n"
            "        return torch.zeros(size).scatter(1, torch.arange(size[1]).expand(size), self.embedding(",
            "bfloat16 autocast",
            "raises RuntimeError: scatter",
        ),
    ],
)
def test_a_fault_is_caught_and_named(tmp_path, part, other, name, says):
    closing = [("- 1)))", "- 1))))")] if "scatter" in other else []
    finding = found(network(tmp_path, (part, other), *closing))[name]
    assert finding.status == "fail", finding
    assert re.search(says, finding.figure)
    assert "\n" not in finding.figure


def test_a_network_without_dropout_is_sound(tmp_path):
    path = network(tmp_path, (", dropout=0.1", ""), ("nn.Dropout(dropout)", "nn.Identity()"))
    findings = found(path)
    assert (findings["dropout acts"].status, findings["dropout acts"].figure) == (
        "skip",
        "its __init__ takes no dropout",
    )
    assert {f.status for name, f in findings.items() if name != "dropout acts"} == {"pass"}


@pytest.mark.parametrize("name", ["tiny", "mobilefacenet"])
def test_backbones_of_ours_are_sound(name):
    ours = replace(network_of(name), image_size=32)  # by default mobilefacenet takes ten times as many pixels
    assert {measured(prop, ours).status for prop in NETWORK_PROPERTIES} == {"pass"}
