"""One step against a plain loop, for both optimisers, and what they decay."""

import copy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossbench import Head, load_head
from lossbench.config import Config
from lossbench.data.batches import augment, augmentation_draws
from lossbench.models.backbones import build_backbone
from lossbench.training.step import TrainingFailed, loss_fault, make_optimizer, train_step

CONFIG = Config(image_size=32, weight_decay=0.25).resolved()
SGD = replace(CONFIG, optimizer="sgd", weight_decay=0.01)


def parts(loss="arcface", dropout=0.2):
    torch.manual_seed(0)
    backbone = build_backbone("tiny", embedding_dim=8, dropout=dropout)
    return backbone.train(), load_head(loss, num_classes=5, embedding_dim=8).train()


def batches(count, size=6):
    chance = torch.Generator().manual_seed(1)
    draws = augmentation_draws(torch.Size((count, size)), chance)
    for i in range(count):
        images = torch.rand(size, 3, 32, 32, generator=chance)
        yield images, torch.randint(0, 5, (size,), generator=chance), draws[i]


@pytest.mark.parametrize("loss", ["ce", "arcface", "triplet"])
def test_steps_equal_a_plain_loop(loss):
    """The same three steps written out: augmentation, forward, gradients from zero, AdamW by its paper's formula."""
    backbone, head = parts(loss)
    plain_backbone, plain_head = copy.deepcopy(backbone), copy.deepcopy(head)
    optimizer = make_optimizer(backbone, head, CONFIG)
    parameters = [*plain_backbone.parameters(), *plain_head.parameters()]
    starts = [p.detach().clone() for p in parameters]
    first, second = ([torch.zeros_like(p) for p in parameters] for _ in range(2))
    for t, (images, labels, draws) in enumerate(batches(3), 1):
        lr = 0.01 * t
        torch.manual_seed(t)  # dropout
        loss_of_step = train_step(backbone, head, optimizer, images, labels, draws, lr)
        torch.manual_seed(t)
        expected = plain_head(plain_backbone(augment(images, draws)), labels)
        torch.testing.assert_close(loss_of_step, expected.detach(), rtol=1e-4, atol=1e-5)
        gradients = torch.autograd.grad(expected, parameters)
        for p, g, m, v in zip(parameters, gradients, first, second, strict=True):
            m.mul_(0.9).add_(0.1 * g)
            v.mul_(0.999).add_(0.001 * g * g)
            decay = 0.25 if p.ndim >= 2 else 0.0
            step = (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
            p.data = p.data * (1 - lr * decay) - lr * step
    for p, q, start in zip([*backbone.parameters(), *head.parameters()], parameters, starts, strict=True):
        moved = (q - start).norm()
        assert (p - q).norm() < 3e-3 * moved, "all but a few, whose gradients are rounding"


def test_steps_of_sgd_equal_a_plain_loop():
    """SGD with momentum 0.9 written out: v = 0.9 v + (gradient + decay * weight), weight -= rate * v."""
    backbone, head = parts("ce", dropout=0.0)
    plain_backbone, plain_head = copy.deepcopy(backbone), copy.deepcopy(head)
    optimizer = make_optimizer(backbone, head, SGD)
    parameters = [*plain_backbone.parameters(), *plain_head.parameters()]
    starts, momenta = [p.detach().clone() for p in parameters], [torch.zeros_like(p) for p in parameters]
    for t, (images, labels, draws) in enumerate(batches(3), 1):
        train_step(backbone, head, optimizer, images, labels, draws, 0.01 * t)
        gradients = torch.autograd.grad(plain_head(plain_backbone(augment(images, draws)), labels), parameters)
        for p, g, v in zip(parameters, gradients, momenta, strict=True):
            v.mul_(0.9).add_(g + (0.01 * p.detach() if p.ndim >= 2 else 0))
            p.data -= 0.01 * t * v
    for p, q, start in zip([*backbone.parameters(), *head.parameters()], parameters, starts, strict=True):
        assert (p - q).norm() < 3e-3 * (q - start).norm()


def test_by_default_a_step_is_adamws_to_the_last_bit():
    """As it was before there was a choice: fused AdamW over the same two groups."""
    ends = []
    for ours in (True, False):
        backbone, head = parts()
        everything = [*backbone.parameters(), *head.parameters()]
        matrices, others = [p for p in everything if p.ndim > 1], [p for p in everything if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": 0.25}, {"params": others, "weight_decay": 0.0}]
        optimizer = make_optimizer(backbone, head, CONFIG) if ours else torch.optim.AdamW(groups, lr=1.0, fused=True)
        for t, (images, labels, draws) in enumerate(batches(3), 1):
            torch.manual_seed(t)
            if ours:
                train_step(backbone, head, optimizer, images, labels, draws, 0.01 * t)
                continue
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * t
            loss = head(backbone(augment(images, draws)), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        ends.append([p.detach().clone() for p in everything])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("config", [CONFIG, SGD])
def test_whether_a_gradient_reached_the_backbone_is_noted_and_kept(config):
    """Weight decay alone is no gradient; one step that had one is enough; a state that is loaded brings it along."""
    backbone, _ = parts()
    still, moving = Watching(lambda x: 0 * x.sum()), Watching(lambda x: x.square().mean())
    optimizer = make_optimizer(backbone, still, config)
    noted = []
    for head in (still, moving, still):
        train_step(backbone, head, optimizer, *next(batches(1)), 0.01)
        noted.append(optimizer.param_groups[0]["moved"])
    assert noted == [False, True, True]
    other = make_optimizer(backbone, still, config)
    other.load_state_dict(optimizer.state_dict())
    assert other.param_groups[0]["moved"] is True


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_parameter_may_get_its_first_gradient_late(optimizer):
    backbone, head = parts("ce")
    made = make_optimizer(backbone, head, replace(CONFIG, optimizer=optimizer))
    late = head.bias
    late.requires_grad_(False)
    train_step(backbone, head, made, *next(batches(1)), 0.01)
    before = late.clone()
    late.requires_grad_(True)
    train_step(backbone, head, made, *next(batches(1)), 0.01)
    assert not torch.equal(late, before)


def test_gradients_that_were_there_before_do_not_count():
    images, labels, draws = next(batches(1))
    ends = []
    for leftover in (False, True):
        backbone, head = parts()
        optimizer = make_optimizer(backbone, head, CONFIG)
        for p in (*backbone.parameters(), *head.parameters()) if leftover else ():
            p.grad = torch.ones_like(p)
        torch.manual_seed(0)
        train_step(backbone, head, optimizer, images, labels, draws, 0.01)
        ends.append([p.detach().clone() for p in (*backbone.parameters(), *head.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_the_learning_rate_of_each_step_is_in_effect():
    """A first step of Adam moves what does not decay by just the rate; at a rate of 0 nothing moves at all."""
    for lr in (0.0, 1e-3, 0.02):
        backbone, head = parts("ce", dropout=0.0)
        optimizer = make_optimizer(backbone, head, CONFIG)
        before = [p.detach().clone() for p in (*backbone.parameters(), *head.parameters())]
        train_step(backbone, head, optimizer, *next(batches(1)), lr)
        assert [group["lr"] for group in optimizer.param_groups] == [lr, lr]
        bias = next(i for i, (name, _) in enumerate(head.named_parameters()) if name == "bias")
        moved = [(p - q).abs() for p, q in zip((*backbone.parameters(), *head.parameters()), before, strict=True)]
        own = moved[len(list(backbone.parameters())) + bias]
        torch.testing.assert_close(own, torch.full_like(own, lr), rtol=1e-3, atol=0)
        assert lr > 0 or not any(bool(m.any()) for m in moved)


def test_weight_decay_acts_on_matrices_and_filters_alone_and_by_its_value():
    """With gradients of 0, AdamW multiplies what decays by 1 - lr·decay and leaves the rest as it is."""
    backbone, head = parts("ce")
    optimizer = make_optimizer(backbone, head, CONFIG)
    everything = [*backbone.parameters(), *head.parameters()]
    listed = [p for group in optimizer.param_groups for p in group["params"]]
    assert sorted(map(id, listed)) == sorted(map(id, everything)), "each once"
    assert {p.ndim for p in everything} >= {1, 2, 4}
    before = [p.detach().clone() for p in everything]
    for p in everything:
        p.grad = torch.zeros_like(p)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    optimizer.step()
    for p, was in zip(everything, before, strict=True):
        torch.testing.assert_close(p, was * (1 - 0.1 * 0.25) if p.ndim >= 2 else was)


def test_frozen_parameters_are_left_to_themselves():
    backbone, head = parts()
    frozen = next(backbone.parameters()).requires_grad_(False)
    optimizer = make_optimizer(backbone, head, CONFIG)
    assert not any(p is frozen for group in optimizer.param_groups for p in group["params"])
    before = frozen.clone()
    train_step(backbone, head, optimizer, *next(batches(1)), 0.1)
    assert torch.equal(frozen, before)


class Watching(Head):
    """A loss that keeps what it is given."""

    def __init__(self, loss):
        super().__init__()
        self.loss, self.seen = loss, []

    def forward(self, embeddings, labels):
        self.seen.append((embeddings, labels))
        return self.loss(embeddings)


class HalfPrecision(nn.Module):
    """A backbone whose embeddings are bfloat16, as under autocast on a GPU."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, images):
        return self.linear(images.mean((2, 3))).to(torch.bfloat16)


def test_the_head_gets_float32_and_the_loss_comes_back_detached():
    backbone, head = HalfPrecision(), Watching(lambda x: x.square().mean())
    loss = train_step(backbone, head, make_optimizer(backbone, head, CONFIG), *next(batches(1)), 0.1)
    ((embeddings, labels),) = head.seen
    assert embeddings.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert not loss.requires_grad
    assert loss.item() == embeddings.square().mean().item()


@pytest.mark.parametrize(
    ("loss", "fault"),
    [
        (lambda x: 1.5, "a float"),
        (lambda x: None, "a NoneType"),
        (lambda x: x.sum(1), r"of shape \[6\]: end forward with .mean()"),
        (lambda x: x.sum().view(1), r"of shape \[1\]"),
        (lambda x: x.detach().sum(), "one without a gradient"),
    ],
)
def test_a_loss_that_is_not_one_differentiable_number_is_refused_before_anything_moves(loss, fault):
    backbone, head = HalfPrecision(), Watching(loss)
    before = [p.clone() for p in backbone.parameters()]
    with pytest.raises(TrainingFailed, match=f"^the loss must be one differentiable number, not {fault}"):
        train_step(backbone, head, make_optimizer(backbone, head, CONFIG), *next(batches(1)), 0.1)
    assert all(torch.equal(a, b) for a, b in zip(before, backbone.parameters(), strict=True))


def test_one_differentiable_number_has_no_fault():
    assert loss_fault(torch.ones(3, requires_grad=True).sum()) == ""


def test_an_image_is_augmented_before_the_backbone_sees_it():
    images, labels, draws = next(batches(1))
    backbone, head = HalfPrecision(), Watching(lambda x: x.square().mean())
    seen = []
    backbone.register_forward_pre_hook(lambda net, given: seen.append(given[0]))
    train_step(backbone, head, make_optimizer(backbone, head, CONFIG), images, labels, draws, 0.1)
    assert torch.equal(seen[0], augment(images, draws))
    assert not torch.equal(seen[0], images)
    assert F.mse_loss(seen[0], images) < 0.2
