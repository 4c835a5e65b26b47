"""The training step in CUDA graphs: the numbers of eager steps, and what capturing puts back."""

import gc

import pytest
import torch
from torch import nn

from lossbench import Head, load_head
from lossbench.config import Config
from lossbench.models.backbones import build_backbone
from lossbench.training.checkpoint import copy_state
from lossbench.training.snapshot import Snapshot
from lossbench.training.step import Step, make_optimizer
from lossbench.utils.device import be_deterministic

BATCH, SIDE, CLASSES, DIM = 32, 64, 50, 64
SHAPE = (BATCH, SIDE, SIDE, 3)


class Parts:
    """A network with dropout and BatchNorm, a head and an optimiser on the GPU, and their step."""

    def __init__(self, cuda, loss="arcface", backbone="small", optimizer="adamw", eager=False):
        be_deterministic(cuda)
        torch.manual_seed(0)
        self.device = cuda
        config = Config(optimizer=optimizer, weight_decay=0.01).resolved()
        self.backbone = build_backbone(backbone, embedding_dim=DIM, image_size=SIDE, dropout=0.2)
        self.backbone = self.backbone.to(cuda).to(memory_format=torch.channels_last).train()
        self.head = loss if isinstance(loss, Head) else load_head(loss, num_classes=CLASSES, embedding_dim=DIM)
        self.head = self.head.to(cuda).train()
        self.optimizer = make_optimizer(self.backbone, self.head, config)
        self.notes = []
        self.step = Step(self.backbone, self.head, self.optimizer, SHAPE, cuda, on_note=self.notes.append)
        if eager:
            self.step._recorder = None

    def go(self, steps):
        torch.manual_seed(1)  # dropout, and losses that draw
        losses = []
        for t in range(steps):
            chance = torch.Generator().manual_seed(t)
            images = torch.randint(0, 256, SHAPE, dtype=torch.uint8, generator=chance)
            labels = torch.arange(BATCH) // 4 + t % 5
            draws = torch.rand(7, BATCH, generator=chance)
            self.head.progress(t / steps)
            losses.append(self.step(*(x.to(self.device) for x in (images, labels, draws)), 0.001 * (t + 1)).clone())
        return torch.stack(losses).tolist()

    def snapshot(self):
        return Snapshot({"backbone": self.backbone, "head": self.head}, self.optimizer, {}, self.device)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(
    ("loss", "how"),
    [
        ("ce", "whole"),
        ("arcface", "whole"),
        ("cosface", "whole"),
        ("sphereface", "whole"),
        ("curricularface", "whole"),
        ("elasticface", "whole"),
        ("triplet", "split"),
        ("arcface_triplet", "split"),
    ],
)
def test_captured_steps_give_the_numbers_of_eager_ones(cuda, loss, how, optimizer):
    captured, eager = Parts(cuda, loss, optimizer=optimizer), Parts(cuda, loss, optimizer=optimizer, eager=True)
    assert captured.go(12) == eager.go(12)
    assert captured.snapshot().difference(eager.snapshot()) == ""
    assert eager.step.how == "eager"
    assert captured.step.how == how
    assert captured.notes == []


@pytest.mark.parametrize("backbone", ["tiny", "resnet18", "mobilefacenet", "iresnet18"])
def test_every_kind_of_backbone_is_captured(cuda, backbone):
    captured, eager = Parts(cuda, backbone=backbone), Parts(cuda, backbone=backbone, eager=True)
    assert captured.go(4) == eager.go(4)
    assert captured.step.how == "whole"


def test_capturing_puts_back_weights_statistics_moments_and_random_state(cuda):
    """All that it tries before the first step counts: seen by choosing alone."""
    parts = Parts(cuda)
    before = parts.snapshot()
    parts.step._choose(parts.step._recorder)
    assert parts.step.how == "whole"
    assert before.difference(parts.snapshot()).startswith("optimizer."), "state of the optimiser that is new is zero"
    assert not any(bool(t.any()) for kept in parts.optimizer.state.values() for t in kept.values())
    for kept in parts.optimizer.state.values():
        kept.clear()
    assert before.difference(parts.snapshot()) == ""


def test_every_replay_draws_dropout_of_its_own_and_a_seed_decides_it(cuda):
    def losses(parts, seed):
        torch.manual_seed(seed)
        return [parts.step(parts.step.images, parts.step.labels, parts.step.draws, 0.0).item() for _ in range(4)]

    parts = Parts(cuda, "ce")
    parts.go(1)
    first, again, other = losses(parts, 1), losses(parts, 1), losses(parts, 2)
    assert len(set(first)) == 4
    assert first == again
    assert first != other


class Own(Head):
    """A loss that runs a function of one's own in the middle."""

    def __init__(self, function):
        super().__init__()
        self.weight, self.function = nn.Parameter(torch.ones(DIM)), function

    def forward(self, embeddings, labels):
        return self.function((embeddings * self.weight).square().mean())


def test_a_head_that_waits_for_the_device_runs_between_graphs(cuda):
    captured = Parts(cuda, Own(lambda loss: loss * (2 if loss.item() > 0 else 1)))
    eager = Parts(cuda, Own(lambda loss: loss * 2), eager=True)
    assert captured.go(5) == eager.go(5)
    assert captured.step.how == "split"
    assert torch.cuda.get_sync_debug_mode() == 0


def test_a_head_that_raises_fails_with_its_own_error_and_the_next_run_is_captured(cuda):
    def broken(loss):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        Parts(cuda, Own(broken)).go(1)
    test_captured_steps_give_the_numbers_of_eager_ones(cuda, "arcface", "whole", "adamw")


def test_nan_is_replayed_as_nan(cuda):
    parts = Parts(cuda, Own(lambda loss: loss * float("nan")))
    assert all(loss != loss for loss in parts.go(3))


def test_whether_a_gradient_reached_the_backbone_is_noted_without_waiting(cuda):
    still, moving = Parts(cuda, Own(lambda loss: 0 * loss)), Parts(cuda)
    for parts in (still, moving):
        parts.go(1)
        torch.cuda.set_sync_debug_mode("error")
        try:
            parts.step(parts.step.images, parts.step.labels, parts.step.draws, 0.01)
        finally:
            torch.cuda.set_sync_debug_mode(0)
    assert (bool(still.step.moved), bool(moving.step.moved)) == (False, True)


def test_the_memory_of_a_graph_goes_with_its_step(cuda):
    def used():
        gc.collect()
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved(cuda)

    Parts(cuda).go(2)  # what stays for good: handles and workspaces
    before = used()
    Parts(cuda).go(2)
    assert used() <= before


def test_a_copy_of_the_model_is_not_part_of_the_graph(cuda):
    """--select val copies weights between steps, and evaluation runs beside the graph: replays change neither."""
    parts = Parts(cuda)
    parts.go(2)
    assert parts.step.how == "whole"
    kept = copy_state(parts.backbone)
    on_host = {name: tensor.cpu() for name, tensor in kept.items()}
    images = torch.rand(4, 3, SIDE, SIDE, device=cuda)
    parts.backbone.eval()
    with torch.inference_mode():
        embeddings = parts.backbone(images)
    embeddings_on_host = embeddings.cpu()
    parts.backbone.train()
    parts.go(2)
    assert all(torch.equal(tensor.cpu(), on_host[name]) for name, tensor in kept.items())
    assert torch.equal(embeddings.cpu(), embeddings_on_host)
    now = parts.backbone.state_dict()
    assert not all(torch.equal(tensor, now[name]) for name, tensor in kept.items()), "replays have moved the weights"
    never_captured = build_backbone("small", embedding_dim=DIM, image_size=SIDE, dropout=0.2).to(cuda)
    never_captured = never_captured.to(memory_format=torch.channels_last).eval()
    never_captured.load_state_dict(kept)
    with torch.inference_mode():
        assert torch.equal(never_captured(images), embeddings)


def test_after_a_capture_that_fails_midway_training_continues_with_the_same_numbers(cuda, monkeypatch):
    """The probe for waits is switched off, so that torch's own error comes from the middle of the capture."""
    captured = Parts(cuda, Own(lambda loss: loss * (2 if loss.item() > 0 else 1)))
    monkeypatch.setattr(type(captured.step._recorder), "refusal", lambda self, work: work() or "")
    eager = Parts(cuda, Own(lambda loss: loss * 2), eager=True)
    assert captured.go(5) == eager.go(5)
    assert captured.step.how in ("split", "eager")
    monkeypatch.undo()
    test_captured_steps_give_the_numbers_of_eager_ones(cuda, "arcface", "whole", "adamw")
