"""A snapshot puts back all that training steps change, where it was, and tells what differs."""

import random

import numpy as np
import pytest
import torch

from lossbench import load_head
from lossbench.config import Config
from lossbench.models.backbones import build_backbone
from lossbench.training.snapshot import Snapshot
from lossbench.training.step import Step, make_optimizer

CPU = torch.device("cpu")


class Trained:
    """A backbone with dropout and statistics, a head with a buffer, and one static tensor, after some steps."""

    def __init__(self, steps, optimizer="adamw"):
        torch.manual_seed(0)
        self.backbone = build_backbone("tiny", embedding_dim=8, dropout=0.5).train()
        self.head = load_head("curricularface+0.5*triplet", num_classes=3, embedding_dim=8).train()
        self.head.count, self.head.aside = 3, torch.zeros(2)
        self.optimizer = make_optimizer(self.backbone, self.head, Config(optimizer=optimizer).resolved())
        self.further = torch.zeros(())
        self.step = Step(self.backbone, self.head, self.optimizer, (4, 32, 32, 3), CPU)
        self.go(steps)

    def go(self, steps=1):
        for _ in range(steps):
            images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
            self.step(images, torch.tensor([0, 1, 2, 0]), torch.rand(7, 4), 0.01)
            self.head.count += 1
            self.head.aside += 1
            self.further += 1

    def snapshot(self):
        modules = {"backbone": self.backbone, "head": self.head}
        return Snapshot(modules, self.optimizer, {"further": self.further}, CPU)

    def places(self):
        state = [value for kept in self.optimizer.state.values() for value in kept.values()]
        return [tensor.data_ptr() for tensor in (*self.snapshot().attributes.tensors.values(), *state)]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_steps_after_it_are_taken_back_where_they_were_made(optimizer):
    trained = Trained(2, optimizer)
    before, places = trained.snapshot(), trained.places()
    trained.go()
    after = trained.snapshot()
    before.restore()
    assert trained.places() == places
    assert before.difference(trained.snapshot()) == ""
    assert (trained.head.count, trained.further.item(), trained.head.aside.tolist()) == (5, 2, [2, 2])
    trained.go()
    assert after.difference(trained.snapshot()) == "", "the same draws, moments and statistics lead to the same step"


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_an_optimiser_that_had_no_state_starts_as_if_for_the_first_time(optimizer):
    first, again = Trained(0, optimizer), Trained(0, optimizer)
    before = again.snapshot()
    again.go(2)
    before.restore()
    again.go()
    torch.set_rng_state(before.random)
    first.go()
    assert first.snapshot().difference(again.snapshot()) == ""


CHANGES = {
    "backbone.": lambda t: next(t.backbone.parameters()).data.add_(1),
    "head.": lambda t: t.head.aside.add_(1),
    "optimizer.": lambda t: next(iter(t.optimizer.state.values()))["exp_avg"].add_(1),
    "further": lambda t: t.further.add_(1),
    "head.count": lambda t: setattr(t.head, "count", 0),
    "the state of the random": lambda t: torch.rand(1),
    "the state of the": lambda t: random.random(),
    "the state": lambda t: np.random.rand(),  # noqa: NPY002
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_difference_is_found_and_named(what):
    trained = Trained(1)
    before = trained.snapshot()
    assert before.difference(trained.snapshot()) == ""
    CHANGES[what](trained)
    assert before.difference(trained.snapshot()).startswith(what)
    assert trained.snapshot().difference(before).startswith(what)


def test_nan_equals_nan_and_zero_differs_from_minus_zero():
    trained = Trained(1)
    trained.further.fill_(float("nan"))
    assert trained.snapshot().difference(trained.snapshot()) == ""
    trained.further.fill_(0.0)
    before = trained.snapshot()
    trained.further.fill_(-0.0)
    assert before.difference(trained.snapshot()) == "further"


def test_a_tensor_that_is_given_other_numbers_in_another_place_or_shape_is_put_back_where_it_was():
    trained = Trained(1)
    weight = trained.head.parts[0].weight
    trained.head.spread = torch.zeros(1).expand(4)
    before, place = trained.snapshot(), weight.data_ptr()
    weight.data = torch.ones(5, 8)
    trained.head.aside = torch.cat([trained.head.aside] * 2)
    trained.head.spread[:1] = 1
    before.restore()
    assert weight.data_ptr() == place
    assert before.difference(trained.snapshot()) == ""
    assert trained.head.spread.tolist() == [0] * 4


def test_numpy_and_python_draw_again_what_they_drew():
    trained = Trained(0)
    before = trained.snapshot()
    drawn = random.random(), np.random.rand()  # noqa: NPY002
    before.restore()
    assert (random.random(), np.random.rand()) == drawn  # noqa: NPY002
