"""Layers, shapes and numbers of a backbone: each fault is caught under its name."""

import re

import pytest
from support import network

from lossbench.conformance.check import check_network

AT = "        self.dropout ="  # a line of the constructor, to put others before


def failing(path):
    return {f.name: f.figure for f in check_network(path) if f.status == "fail"}


def test_a_sound_network_passes_with_its_figures(tmp_path):
    found = {f.name: (f.status, f.figure) for f in check_network(network(tmp_path))}
    assert {status for status, _ in found.values()} == {"pass"}
    assert found["parameters"][1] == "4,768, all trained; 32 px, 16-d by default"
    assert found["images of any size"][1] == "S of 32, 64, 100 and 128"


@pytest.mark.parametrize(
    ("part", "other", "name", "says"),
    [
        ("return self.emb", "return 0, self.emb", "embeddings of any length", "it returns a tuple, not"),
        (
            "nn.Linear(16, embedding_dim)",
            "nn.Linear(16, 16)",
            "embeddings of any length",
            r"returns \[3, 16\] for 3 im",
        ),
        ("- 1)))", "- 1))).squeeze()", "embeddings of any length", r"one image: it returns \[16\] for 1 image,"),
        (
            "nn.AdaptiveAvgPool2d(1)",
            "nn.AvgPool2d(8)",
            "images of any size",
            "--image-size 64: .* raise ValueError in _",
        ),
        ("- 1)))", "- 1))) / images.amax((1, 2, 3))[:, None]", "finite", "training mode, embeddings are infinite"),
        ("- 1)))", "- 1))) + (0 * self.embedding.bias).sqrt()", "finite", "mode, the gradient of .*bias is nan"),
        (
            AT,
            "        self.all = [nn.Conv2d(3, 16, 9)]\n" + AT,
            "layers are registered",
            "all is a list of Modules, not trained; make it an nn.ModuleList",
        ),
        (
            AT,
            "        self.all = {'a': nn.Parameter(torch.ones(3))}\n" + AT,
            "layers are registered",
            "all is a dict of Parameters, not trained; make it an nn.ParameterDict",
        ),
    ],
)
def test_a_fault_is_caught_and_named(tmp_path, part, other, name, says):
    found = failing(network(tmp_path, (part, other)))
    assert re.search(says, found[name])
    assert "\n" not in found[name]


def test_a_network_without_trained_parameters_fails(tmp_path):
    path = network(tmp_path, ("- 1)))", "- 1))).detach()"), (AT, "        self.requires_grad_(False)\n" + AT))
    path = network(tmp_path, ("return self", "self.requires_grad_(False)\n        return self"))
    found = failing(network(tmp_path, ("embedding_dim)\n", "embedding_dim)\n        self.requires_grad_(False)\n")))
    assert found["parameters"].startswith("none of 4,768 parameters is trained: each has requires_grad=False")
    assert path


def test_a_network_that_refuses_sizes_when_it_is_built_is_sound(tmp_path):
    refusal = "        if image_size != 32:\n            raise ValueError('32 px only')\n"
    path = network(tmp_path, (AT, refusal + AT), ("nn.AdaptiveAvgPool2d(1)", "nn.AvgPool2d(8)"))
    (size,) = [f for f in check_network(path) if f.name == "images of any size"]
    assert size.status == "skip"
    assert "it refuses 64 px when it is built: " in size.figure
    assert "ValueError: 32 px only" in size.figure
    assert not failing(path)
