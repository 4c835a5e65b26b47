"""Which losses share their class weights out is found by a trial, and said."""

import pytest
import torch
from support import plugin
from torch.utils._python_dispatch import TorchDispatchMode

from lossbench.losses import initial_rows
from lossbench.losses.head import Head, margin_softmax
from lossbench.losses.loading import load_head, trial_head
from lossbench.losses.registry import find_plugins
from lossbench.losses.sharded_softmax import ClassShard
from lossbench.losses.sharing import built_shared, obstacle, put_whole, shards_of, share_out, whole
from lossbench.losses.spec import parse_spec
from lossbench.utils.distributed import ALONE, Ranks

REPLICATED = {"adacos", "ce", "center", "p2sgrad", "proxy_anchor", "sphereface2", "triplet", "uniface"}


def built(text, classes=7):
    return load_head(text, num_classes=classes, embedding_dim=4), trial_head(parse_spec(text, find_plugins()))


@pytest.mark.parametrize("name", [name for name in find_plugins() if not name.startswith("pml:")])
def test_every_loss_that_is_a_margin_softmax_is_shared_out(name):
    head, trial = built(name)
    before = torch.random.get_rng_state()
    found = share_out(head, trial, Ranks(0, 2))
    assert torch.equal(before, torch.random.get_rng_state())
    if name == "arcface_triplet":
        assert found == {"ArcFace": "", "Triplet": "it has no class weights called weight"}
    else:
        assert [bool(reason) for reason in found.values()] == [name in REPLICATED]
    assert [len(shard.rows) for shard in shards_of(head)] == [3] * (name not in REPLICATED)


def test_a_mix_shares_out_what_it_can():
    head, trial = built("arcface+0.5*ce")
    found = share_out(head, trial, Ranks(1, 2))
    assert found["ArcFace"] == ""
    assert found["CE"] == "it uses its class weights in another way than margin_softmax"
    assert [len(shard.rows) for shard in shards_of(head)] == [4]


def test_a_loss_that_looks_at_all_weights_is_not_shared_out(tmp_path):
    loss = "margin_softmax(embeddings, self.weight, labels, lambda own: own, 30.0)"
    for name, returned in (
        ("norms", f"{loss} + self.weight.norm()"),
        ("count", f"{loss} + len(self.weight.shape[1:])"),
    ):
        path = plugin(tmp_path, name, f"\n    def forward(self, embeddings, labels):\n        return {returned}\n")
        reason = obstacle(trial_head(parse_spec(path, find_plugins())))
        assert bool(reason) is (name == "norms"), reason


def test_a_loss_that_fails_on_its_own_is_not_said_to_do_more_with_its_weights(tmp_path):
    path = plugin(tmp_path, "bad", "\n    def forward(self, embeddings, labels):\n        raise RuntimeError('no')\n")
    assert obstacle(trial_head(parse_spec(path, find_plugins()))) == "it fails on a trial batch"


def test_a_loss_that_looks_at_what_is_there_is_not_shared_out():
    class Sly(Head):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.randn(10, 8))

        def forward(self, embeddings, labels):
            loss = margin_softmax(embeddings, self.weight, labels, lambda own: own, 30.0)
            return loss if isinstance(self.weight, torch.Tensor) else 2 * loss

    assert obstacle(Sly()) == "its loss changes with its class weights shared out"


def test_the_weights_of_all_classes_come_back():
    head, trial = built("subcenter_arcface+0.5*cosface")
    before = {name: tensor.clone() for name, tensor in head.state_dict().items()}
    share_out(head, trial, ALONE)
    assert "parts.0.weight.rows" in head.state_dict()
    with whole(head):
        assert head.state_dict().keys() == before.keys()
        assert all(torch.equal(tensor, before[name]) for name, tensor in head.state_dict().items())
        assert head.logits(torch.randn(3, 4)).shape == (3, 7)
    assert [type(part.weight) for part in head.parts] == [ClassShard, ClassShard]
    put_whole(head)
    assert head.state_dict().keys() == before.keys()


class Largest(TorchDispatchMode):
    """The most numbers that one tensor had which was made in here."""

    most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **kwargs or {})
        if isinstance(made, torch.Tensor):
            self.most = max(self.most, made.untyped_storage().nbytes() // made.element_size())
        return made


@pytest.mark.parametrize("rank", range(3))
@pytest.mark.parametrize(
    "text", ["arcface", "arcface_triplet", "subcenter_arcface", "cosface+0.5*arcface", "arcface+ce", "ce"]
)
def test_a_head_that_is_built_shared_is_one_that_is_shared_out(text, rank):
    def build():
        torch.manual_seed(4)
        return load_head(text, num_classes=3001, embedding_dim=4)

    trial, ranks = trial_head(parse_spec(text, find_plugins())), Ranks(rank, 3)
    expected, largest = build(), Largest()
    reasons = share_out(expected, trial, ranks)
    with largest:
        head, found = built_shared(build, 3001, trial, ranks)
    assert found == reasons
    assert head.state_dict().keys() == expected.state_dict().keys()
    assert all(torch.equal(value, expected.state_dict()[name]) for name, value in head.state_dict().items())
    assert [(s.shape, s.start, len(s)) for s in shards_of(head)] == [
        (s.shape, s.start, len(s)) for s in shards_of(expected)
    ]
    if "ce" not in text.split("+"):
        per_class = 3 * 4 if text == "subcenter_arcface" else 4
        assert largest.most <= 2 * initial_rows.BLOCK * per_class < 3001 * per_class


def test_a_head_with_weights_that_are_not_shared_is_built_whole():
    text = "arcface+0.5*center"
    head, found = built_shared(
        lambda: load_head(text, num_classes=9, embedding_dim=4),
        9,
        trial_head(parse_spec(text, find_plugins())),
        Ranks(0, 2),
    )
    assert found["ArcFace"] == ""
    assert [len(shard.rows) for shard in shards_of(head)] == [4]
    assert [part.centers.shape for part in head.modules() if hasattr(part, "centers")] == [(9, 4)]
