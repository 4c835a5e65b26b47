"""Seeds depend on their purpose alone; the weights a run starts from on its repeat alone."""

import hashlib

import pytest
import torch
from torch import nn

from lossbench.config import Config
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec
from lossbench.training.seeds import generator_of, initial_backbone, initial_head, seed_of

CONFIG = Config(image_size=32).resolved()


def states(module):
    return list(module.state_dict().values())


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(states(a), states(b), strict=True))


def head(text, repeat=0, classes=24, config=CONFIG):
    return initial_head(config, parse_spec(text, find_plugins()), repeat, classes)


def test_a_seed_is_63_bits_of_the_sha256_of_its_purpose():
    for purpose in [(0, 0, "backbone"), (7, 3, "augment", 12), ()]:
        digest = hashlib.sha256(repr(purpose).encode()).hexdigest()
        assert seed_of(*purpose) == int(digest[:16], 16) // 2
        assert 0 <= seed_of(*purpose) < 2**63


def test_seeds_of_different_purposes_differ():
    purposes = [(s, r, what, e) for s in range(3) for r in range(3) for what in ("order", "augment") for e in range(4)]
    purposes += [("ab",), ("a", "b"), (1, 23), (12, 3), (1,), ("1",)]
    assert len({seed_of(*purpose) for purpose in purposes}) == len(purposes)


def test_a_generator_is_seeded_by_its_purpose():
    expected = torch.Generator().manual_seed(seed_of(0, 1, "order", 2))
    assert torch.equal(torch.rand(5, generator=generator_of(0, 1, "order", 2)), torch.rand(5, generator=expected))
    assert generator_of(0).device.type == "cpu"


@pytest.mark.parametrize("make", [lambda r, c: initial_backbone(c, r), lambda r, c: head("arcface", r, config=c)])
def test_initial_weights_depend_on_seed_and_repeat_and_on_nothing_drawn_before(make):
    first = make(0, CONFIG)
    torch.rand(3)
    assert equal(first, make(0, CONFIG))
    assert not equal(first, make(1, CONFIG))
    assert not equal(first, make(0, Config(image_size=32, seed=1).resolved()))


def test_making_the_initial_weights_draws_nothing_from_the_global_generator():
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    initial_backbone(CONFIG, 0)
    head("ce")
    assert torch.equal(torch.rand(4), expected)


def test_heads_with_weights_of_one_shape_start_from_the_same_ones():
    arcface = head("arcface")
    assert arcface.weight.shape == (24, CONFIG.embedding_dim)
    assert torch.equal(arcface.weight, head("cosface:margin=0.1").weight)
    assert head("arcface", classes=7).weight.shape == (7, CONFIG.embedding_dim)


def test_the_settings_of_the_backbone_are_used():
    config = Config(image_size=32, backbone="small", embedding_dim=24, dropout=0.35).resolved()
    small = initial_backbone(config, 0)
    assert small.eval()(torch.rand(2, 3, 32, 32)).shape == (2, 24)
    assert [m.p for m in small.modules() if isinstance(m, nn.Dropout)] == [0.35]
    sizes = [sum(p.numel() for p in net.parameters()) for net in (small, initial_backbone(CONFIG, 0))]
    assert sizes[0] > 3 * sizes[1], "another network than tiny"
