"""A snapshot puts back all that training steps change, where it was, and tells what differs."""

import pytest
import torch
from torch import nn

from lossbench import load_head
from lossbench.config import Config
from lossbench.models.backbones import build_backbone
from lossbench.training.snapshot import Snapshot, module_tensors, plain_numbers
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
        modules = [*module_tensors(self.backbone, "backbone"), *module_tensors(self.head, "head")]
        state = [value for kept in self.optimizer.state.values() for value in kept.values()]
        return [tensor.data_ptr() for tensor in (*(tensor for _, tensor in modules), *state)]


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
    "a number": lambda t: setattr(t.head, "count", 0),
    "the state of the random": lambda t: torch.rand(1),
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


def test_tensors_and_numbers_are_found_in_every_module_by_name():
    module = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    module.aside, module[1].count, module[0].text = torch.zeros(1), 2, "x"
    names = [name for name, _ in module_tensors(module, "net")]
    assert names == [
        "net.aside", "net.0.weight", "net.0.bias", "net.1.weight", "net.1.bias", "net.1.running_mean",
        "net.1.running_var", "net.1.num_batches_tracked",
    ]  # fmt: skip
    numbers = dict(plain_numbers({"net": module}))
    assert numbers["net.1.count"] == 2
    assert numbers["net.0.text"] == "x"
    assert numbers["net.training"] is True
