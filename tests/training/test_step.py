"""One step against a plain loop, for both optimisers, recorded in parts or not, and what it decays."""

import copy
import random
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossbench import Head, load_head
from lossbench.config import Config
from lossbench.data.batches import augment, augmentation_draws, to_images
from lossbench.models.backbones import build_backbone
from lossbench.training.step import Step, TrainingFailed, loss_fault, make_optimizer

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
        images = torch.randint(0, 256, (size, 32, 32, 3), dtype=torch.uint8, generator=chance)
        yield images, torch.randint(0, 5, (size,), generator=chance), draws[i]


def train_step(backbone, head, optimizer, images, labels, draws, lr):
    """Make one step, by static tensors of its own."""
    return Step(backbone, head, optimizer, images.shape, images.device)(images, labels, draws, lr)


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
        expected = plain_head(plain_backbone(augment(to_images(images), draws)), labels)
        torch.testing.assert_close(loss_of_step, expected.detach().double(), rtol=1e-4, atol=1e-5)
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
        loss = plain_head(plain_backbone(augment(to_images(images), draws)), labels)
        gradients = torch.autograd.grad(loss, parameters)
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
            loss = head(backbone(augment(to_images(images), draws)), labels)
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
        noted.append(bool(optimizer.param_groups[0]["moved"]))
    assert noted == [False, True, True]
    other = make_optimizer(backbone, still, config)
    other.load_state_dict(optimizer.state_dict())
    assert bool(other.param_groups[0]["moved"])


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


class Played:
    """Records as CUDA does, for a CPU: recording runs the work once, and a replay runs it again.

    `refused` are the names of methods that wait for the device, `failing` those whose recording raises; `drift` makes
    every replay leave other numbers.
    """

    def __init__(self, refused=(), failing=(), drift=False):
        self.refused, self.failing, self.drift, self.recorded, self.released = refused, failing, drift, [], 0

    def warm(self, work):
        work()

    def refusal(self, work):
        work()
        return "it waits for the device" if work.__name__ in self.refused else ""

    def record(self, *works):
        for work in works:
            work()
            if work.__name__ in self.failing:
                raise RuntimeError("operation not permitted when stream is capturing")
        self.recorded.append([work.__name__ for work in works])
        return tuple(self.replay(work) for work in works)

    def release(self):
        self.released += 1

    def replay(self, work):
        def go():
            work()
            if self.drift:
                work.__self__.moved.logical_not_()

        return go


class Counting(Head):
    """A loss that draws, has a buffer, and counts in an attribute: all of it changes with every step."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 40).view(5, 8))
        self.register_buffer("mean", torch.zeros(8))
        self.count, self.kept = 0, torch.zeros(())

    def forward(self, embeddings, labels):
        self.count += 1
        self.mean.lerp_(embeddings.detach().mean(0), 0.1)
        self.kept += 1
        noise = torch.rand(len(labels)) / self.count
        own = (embeddings - self.mean - self.weight[labels]).square().sum(1)
        return (own * noise).mean() + self.kept * own.mean()


class Listing(Head):
    """A loss that counts in a list, and keeps its latest embeddings in a deque and their mean in a dict."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 40).view(5, 8))
        self.steps, self.latest, self.kept = [0], deque(maxlen=2), {"mean": torch.zeros(8)}

    def forward(self, embeddings, labels):
        self.steps[0] += 1
        self.latest.append(embeddings.detach())
        self.kept["mean"].lerp_(embeddings.detach().mean(0), 0.1)
        own = (embeddings - self.weight[labels]).square().sum(1).mean()
        seen = torch.cat(list(self.latest)).square().mean() + self.kept["mean"].square().sum()
        return own * self.steps[0] * (1 + seen)


class Lazy(Head):
    """A loss that makes a running mean, a layer and a further attribute when it is first called."""

    def __init__(self):
        super().__init__()
        self.weight, self.mean = nn.Parameter(torch.linspace(-1, 1, 40).view(5, 8)), None

    def forward(self, embeddings, labels):
        now = embeddings.detach().mean(0)
        self.mean = now + 1 if self.mean is None else 0.5 * self.mean + now
        if not hasattr(self, "first"):
            self.first, self.layer = now.clone(), nn.Linear(8, 1)
        return (embeddings - self.weight[labels]).square().mean() * (
            1 + self.mean.square().sum() + self.first.sum() ** 2
        )


class Growing(Head):
    """A loss whose tensor attribute and random draws are of no kind that torch keeps: it grows, and NumPy draws."""

    def __init__(self):
        super().__init__()
        self.weight, self.queue = nn.Parameter(torch.linspace(-1, 1, 40).view(5, 8)), torch.zeros(0, 8)

    def forward(self, embeddings, labels):
        self.queue = torch.cat([self.queue, embeddings.detach()])
        own = (embeddings - self.weight[labels]).square().mean()
        return own * (1 + self.queue.square().sum()) * (np.random.rand() + random.random())  # noqa: NPY002


PLANS = {"whole": Played(), "split": Played(refused=("whole",)), "eager": Played(refused=("whole", "forward"))}


def epoch(make_loss, config, how, count=4):
    """The states after an epoch of steps, recorded or not, and of the plain loop if `how` is None."""
    backbone, _ = parts()
    head = make_loss().train()
    optimizer = make_optimizer(backbone, head, config)
    torch.manual_seed(7)  # dropout, and losses that draw
    random.seed(7)
    np.random.seed(7)  # noqa: NPY002
    losses, step = [], None
    for t, (images, labels, draws) in enumerate(batches(count), 1):
        if how is not None:
            step = step or Step(backbone, head, optimizer, images.shape, images.device, recorder=PLANS[how])
            losses.append(step(images, labels, draws, 0.01 * t).item())
            continue
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * t
        loss = head(backbone(augment(to_images(images), draws)).float(), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    states = [value for state in optimizer.state_dict()["state"].values() for value in state.values()]
    ends = [*backbone.state_dict().values(), *head.state_dict().values(), *states, torch.get_rng_state()]
    return losses, ends, getattr(head, "count", None), step and step.how


LOSSES = {name: (lambda name=name: load_head(name, num_classes=5, embedding_dim=8)) for name in ("ce", "triplet")}
LOSSES |= {"curricularface": lambda: load_head("curricularface", num_classes=5, embedding_dim=8), "counting": Counting}
LOSSES |= {"listing": Listing, "lazy": Lazy, "growing": Growing}
COUNT = ("triplet", "counting", "listing", "lazy", "growing")  # in attributes, which no graph sees change


@pytest.mark.parametrize("how", PLANS)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("config", [CONFIG, SGD])
def test_an_epoch_equals_the_plain_loop_to_the_last_bit(loss, config, how):
    """However the step is recorded: what was only tried has left nothing, in weights, statistics, moments or draws."""
    plain_losses, plain_ends, plain_count, _ = epoch(LOSSES[loss], config, None)
    losses, ends, count, chosen = epoch(LOSSES[loss], config, how)
    assert chosen == ("split" if how == "whole" and loss in COUNT else how)
    assert losses == plain_losses
    assert all(torch.equal(a, b) for a, b in zip(ends, plain_ends, strict=True))
    assert count == plain_count


@pytest.mark.parametrize("when", ["from the start", "from the first step on"])
def test_a_head_whose_state_cannot_be_copied_is_trained_without_a_graph(when):
    """With the numbers of a plain run: a generator cannot be put back to where it was."""
    ends = []
    for recorder in (None, Played()):
        backbone, _ = parts(dropout=0.0)
        head, notes = Dealing(late=when != "from the start"), []
        optimizer = make_optimizer(backbone, head, CONFIG)
        shape = 6, 32, 32, 3
        step = Step(backbone, head, optimizer, shape, torch.device("cpu"), recorder=recorder, on_note=notes.append)
        losses = [step(images, labels, draws, 0.01).item() for images, labels, draws in batches(3)]
        ends.append([losses, [p.tolist() for p in (*backbone.parameters(), *head.parameters())]])
        assert step.how == "eager"
        assert len(notes) == (recorder is not None)
        assert all("an attribute cannot be copied: TypeError: cannot pickle 'generator' object" in n for n in notes)
    assert ends[0] == ends[1]


class Dealing(Head):
    """A loss that takes its factors from a Python generator."""

    def __init__(self, late):
        super().__init__()
        self.weight, self.factors = nn.Parameter(torch.ones(8)), None if late else (f for f in range(1, 100))

    def forward(self, embeddings, labels):
        self.factors = self.factors or (f for f in range(1, 100))
        return (embeddings * self.weight).square().mean() * next(self.factors)


@pytest.mark.parametrize(
    ("recorder", "how"),
    [
        (None, "eager"),
        (Played(), "whole"),
        (Played(failing=("whole",)), "split"),
        (Played(failing=("whole", "backward")), "eager"),
        (Played(failing=("whole", "forward")), "eager"),
        (Played(drift=True), "eager"),
    ],
)
def test_what_can_be_recorded_with_the_same_numbers_is(recorder, how):
    backbone, head = parts()
    images, labels, draws = next(batches(1))
    notes = []
    optimizer = make_optimizer(backbone, head, CONFIG)
    step = Step(backbone, head, optimizer, images.shape, images.device, recorder=recorder, on_note=notes.append)
    step(images, labels, draws, 0.01)
    assert step.how == how
    assert len(notes) == (how == "eager" and recorder is not None)
    assert recorder is None or recorder.released == len(notes)
    assert how == "split" or not step._embeddings.requires_grad, "it would hold a whole backward pass"
    assert all("CUDA graph" in note and "\n" not in note for note in notes)
    assert not any(group["capturable"] for group in optimizer.param_groups)
    assert (step.seconds_trying > 0) == (recorder is not None)
    tried = step.seconds_trying
    step(images, labels, draws, 0.01)
    assert step.seconds_trying == tried, "once"


def test_an_error_of_the_loss_is_its_own_wherever_it_comes():
    """It comes from steps that are not recorded, and is no reason to try something else."""
    backbone, _ = parts()
    recorder = Played()

    def broken(embeddings):
        raise ZeroDivisionError("mine")

    images, labels, draws = next(batches(1))
    head = Watching(broken)
    step = Step(backbone, head, make_optimizer(backbone, head, CONFIG), images.shape, images.device, recorder=recorder)
    with pytest.raises(ZeroDivisionError, match="mine"):
        step(images, labels, draws, 0.01)
    assert recorder.recorded == []


class Telling(Head):
    """A loss whose `progress` keeps the share in a buffer, in place or not, or in an attribute or a list."""

    def __init__(self, where):
        super().__init__()
        self.where = where
        self.weight = nn.Parameter(torch.ones(8))
        self.register_buffer("share", torch.zeros(()))
        self.number, self.listed = 0.0, [0.0]

    def progress(self, share):
        if self.where == "in place":
            self.share.fill_(share)
        elif self.where == "replaced":
            self.share = torch.full((), share)
        elif self.where == "listed":
            self.listed[0] = share
        else:
            self.number = share

    def forward(self, embeddings, labels):
        return (embeddings * self.weight).square().mean() * (1 + self.share + self.number + self.listed[0])


@pytest.mark.parametrize(
    ("where", "how"), [("in place", "whole"), ("replaced", "split"), ("attribute", "split"), ("listed", "split")]
)
def test_a_head_that_hears_its_progress_is_recorded_whole_if_it_keeps_it_where_a_graph_reads(where, how):
    ends = []
    for recorder in (Played(), None):
        backbone, _ = parts(dropout=0.0)
        head = Telling(where)
        optimizer = make_optimizer(backbone, head, CONFIG)
        step = Step(backbone, head, optimizer, (6, 32, 32, 3), torch.device("cpu"), recorder=recorder)
        for t, (images, labels, draws) in enumerate(batches(3)):
            head.progress(t / 3)
            step(images, labels, draws, 0.01)
        ends.append([p.detach().clone() for p in (*backbone.parameters(), *head.parameters())])
        assert recorder is None or step.how == how
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


@pytest.mark.parametrize("how", PLANS)
def test_a_step_whose_loss_ignores_the_embeddings_leaves_the_backbone_alone(how):
    """Not even weight decay acts on it, as without a gradient it never does."""
    backbone, _ = parts()
    head = Watching(lambda x: weight.square().sum())
    weight = head.weight = nn.Parameter(torch.ones(3))
    before = [p.detach().clone() for p in backbone.parameters()]
    optimizer = make_optimizer(backbone, head, CONFIG)
    step = Step(backbone, head, optimizer, (6, 32, 32, 3), torch.device("cpu"), recorder=PLANS[how])
    for images, labels, draws in batches(2):
        step(images, labels, draws, 0.01)
    assert all(torch.equal(a, b) for a, b in zip(before, backbone.parameters(), strict=True))
    assert not step.moved
    assert not torch.equal(weight, torch.ones(3))


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
    assert torch.equal(seen[0], augment(to_images(images), draws))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(seen[0], to_images(images))
    assert F.mse_loss(seen[0], to_images(images)) < 0.2
