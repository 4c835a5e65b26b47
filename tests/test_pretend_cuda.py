"""Losses, steps and metrics on the GPU that is none: a GPU's way, without a tensor of two devices, to the same bits."""

from types import SimpleNamespace

import pytest
import torch
from pretend_cuda import OnCuda, PretendCuda, moved
from support import settings

from lossbench import heads, load_head
from lossbench.data.batches import augmentation_draws
from lossbench.evaluation import measure as measuring
from lossbench.losses import blocked_softmax as blocks
from lossbench.losses import blocked_sum
from lossbench.losses import head as losses
from lossbench.metrics import identification_rate
from lossbench.models.backbones import build_backbone
from lossbench.training.seeds import initial_backbone
from lossbench.training.step import Step, make_optimizer
from lossbench.utils.device import be_deterministic

CUDA = torch.device("cuda")


@pytest.fixture(autouse=True)
def _deterministic():
    be_deterministic(CUDA)


@pytest.fixture
def one(monkeypatch):
    """A blocked softmax of three rounds: forward and backward with a context of our own, which has no engine."""
    monkeypatch.setattr(blocks, "plan", lambda device, *sizes, plain: blocks.Plan(4, device == "cuda"))

    def passes(unit, weight, labels, scale):
        ctx = SimpleNamespace(needs_input_grad=(True, True, False, True))
        ctx.save_for_backward = lambda *saved: vars(ctx).update(saved_tensors=saved)
        forward = blocks._OwnAndRest.forward(ctx, unit, weight, labels, scale, None, None)
        backward = blocks._OwnAndRest.backward(ctx, torch.ones_like(scale), torch.full_like(scale, 0.5))
        return [*forward, *(found for found in backward if found is not None)]

    return passes


@pytest.mark.parametrize(
    ("refused", "why"),
    [
        (lambda x: x + torch.ones(3), "on the same device"),
        (lambda x: torch.cat([x, torch.ones(3)]), "on the same device"),
        (lambda x: torch.histc(x, 3), "deterministic"),
        (lambda x: x.kthvalue(1), "deterministic"),
        (lambda x: x.median(0), "deterministic"),
        (lambda x: torch.bincount(x.long(), x), "deterministic"),
        (lambda x: x.new_zeros(3).scatter_reduce(0, x.long(), x, "prod"), "deterministic"),
        (lambda x: x.long().view(1, 3) @ x.long(), "not implemented"),
        (lambda x: x.numpy(), "numpy"),
    ],
)
def test_what_a_gpu_refuses_is_refused(refused, why):
    with PretendCuda():
        x = torch.arange(3.0, device="cuda")
        with pytest.raises((RuntimeError, NotImplementedError, TypeError), match=why):
            refused(x)


def test_what_a_gpu_computes_is_computed():
    with PretendCuda():
        x = torch.tensor([3.0, 1.0, 2.0], device="cuda")
        x[1:].add_(1)
        assert type(x) is type(x * torch.tensor(2.0)) is type(x[torch.tensor([0])]) is OnCuda, "numbers and indices may"
        assert x.device == torch.empty(1, device="cuda").device != x.cpu().device
        assert (x.tolist(), x.sort().values.cpu().tolist(), int((x > 2).sum())) == ([3, 2, 3], [2, 3, 3], 2)


@pytest.mark.parametrize("name", sorted(heads()))
def test_every_loss_has_the_same_bits(name, monkeypatch):
    """And takes nothing from the host, which would wait for the device: no index, no copy."""
    monkeypatch.setattr("pretend_cuda._TAKES_BOTH", set())
    chance = torch.Generator().manual_seed(0)
    embeddings, labels = torch.randn(16, 8, generator=chance), torch.arange(16) // 4
    ends = []
    for there in (False, True):
        torch.manual_seed(0)
        head = load_head(name, num_classes=15, embedding_dim=8).train()
        with PretendCuda():
            head, x, y = (moved(head), embeddings.to(CUDA), labels.to(CUDA)) if there else (head, embeddings, labels)
            head.progress(0.5)
            torch.manual_seed(1)
            found = [head(x, y).detach(), head.eval().logits(x), head.class_centers(), *head.buffers()]
            assert all(there == isinstance(tensor, OnCuda) for tensor in found if tensor is not None)
            ends.append([tensor.tolist() for tensor in found if tensor is not None])
    assert ends[0] == ends[1]


@pytest.mark.parametrize("centers", [(), (3,)], ids=["one center", "three centers"])
def test_both_passes_of_a_softmax_in_blocks_have_the_same_bits(one, centers):
    chance = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize(torch.randn(5, 8, generator=chance), dim=1)
    given = unit, torch.randn(10, *centers, 8, generator=chance), torch.arange(5) * 2, torch.arange(1.0, 6.0)
    with PretendCuda():
        there = one(*(tensor.to(CUDA) for tensor in given))
        assert all(isinstance(tensor, OnCuda) for tensor in there)
        assert [tensor.tolist() for tensor in there] == [tensor.tolist() for tensor in one(*given)]


@pytest.mark.parametrize("name", ["uniface", "proxy_anchor"])
def test_a_sum_over_classes_in_blocks_has_the_same_bits(name, monkeypatch):
    monkeypatch.setattr(losses, "WHOLE_NUMBERS", 0)
    monkeypatch.setattr(blocked_sum, "plan", lambda *sizes, plain: blocks.Plan(4, False))
    made = load_head(name, num_classes=10, embedding_dim=8)
    x, labels = torch.randn(5, 8), torch.arange(5) * 2
    here = made(x, labels).item()
    with PretendCuda():
        assert moved(made)(x.to(CUDA), labels.to(CUDA)).item() == here


@pytest.mark.filterwarnings("ignore:CUDA is not available")
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_step_mixes_no_devices(optimizer, monkeypatch):
    """All but the backward pass: gradients are made up."""
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)  # what has no kernel on a CPU
    config = settings(optimizer=optimizer)
    chance = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (6, 32, 32, 3), dtype=torch.uint8, generator=chance)
    draws = augmentation_draws(torch.Size((1, 6)), chance)[0]
    ends = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        parts = build_backbone("tiny", embedding_dim=8), load_head("arcface", num_classes=5, embedding_dim=8)
        with PretendCuda():
            backbone, head = (moved(part) if device == "cuda" else part for part in parts)
            made = make_optimizer(backbone, head, config)
            step = Step(backbone, head, made, images.shape, torch.device(device))
            for target, source in ((step.images, images), (step.draws, draws), (step.lr, torch.tensor(0.01))):
                target.copy_(source)
            step._loss_of(step._embed())
            for p in (*backbone.parameters(), *head.parameters()):
                p.grad = torch.full_like(p, 0.5)
            made.step()
            step._note_gradient(torch.ones_like(step.draws))
            numbers = [step.loss, step.moved, *backbone.parameters(), *head.parameters()]
            assert all((device == "cuda") == isinstance(number, OnCuda) for number in numbers)
            ends.append([number.tolist() for number in numbers])
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(torch.tensor(a), torch.tensor(b), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["arcface", "triplet"])
def test_a_run_is_measured_alike(loss, orl, pixels, monkeypatch):
    """Every metric of the table, and the bootstrap; the embeddings are given."""
    split, config = orl.split(0), settings()
    torch.manual_seed(0)
    backbone = initial_backbone(config, 0)
    head = load_head(loss, num_classes=len(split.train.people), embedding_dim=config.embedding_dim)
    embeddings = measuring._embeddings(backbone, pixels, split)
    monkeypatch.setattr(measuring, "_embeddings", lambda *given: embeddings)
    here = measuring.measure(backbone, head, pixels, split)
    with PretendCuda():
        there = {name: tensor.to(CUDA) for name, tensor in embeddings.items()}
        monkeypatch.setattr(measuring, "_embeddings", lambda *given: there)
        found = measuring.measure(backbone, moved(head), pixels.to(CUDA), split)
    assert found.figures == pytest.approx(here.figures, rel=1e-12, nan_ok=True)
    assert {key: a.tobytes() for key, a in found.resamples.items()} == {
        key: a.tobytes() for key, a in here.resamples.items()
    }


@pytest.mark.parametrize("scale", [1.0, 1e-4], ids=["faces", "collapsed"])
def test_identification_in_many_tiles_has_the_same_bits(scale, monkeypatch):
    """A GPU's tiles, but narrower, so that what a bracket keeps is selected there."""
    for name, columns in {"_ON_GPU": 128, "BLOCK": 8, "_START": 16}.items():
        monkeypatch.setattr(f"lossbench.metrics.exact.pairs.{name}", columns)
    monkeypatch.setattr("lossbench.metrics.exact.order_statistics._LEAST", 300)
    chance = torch.Generator().manual_seed(0)
    labels = torch.arange(90) // 5
    query = 1 + scale * (torch.randn(18, 16, generator=chance)[labels] + torch.randn(90, 16, generator=chance))
    distractors = 1 + scale * torch.randn(300, 16, generator=chance)
    expected = identification_rate(query, labels, distractors)
    with PretendCuda():
        found = identification_rate(query.to(CUDA), labels, distractors.to(CUDA))  # labels may lie anywhere
    for a, b in ((found.tpr, expected.tpr), (found.threshold, expected.threshold), (found.fpr, expected.fpr)):
        assert a.tolist() == b.tolist()
