"""Whatever a module keeps as an attribute is copied, put back and compared; what cannot be copied is refused."""

import functools
import random
import threading
from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from lossbench import load_head
from lossbench.losses.registry import heads
from lossbench.models.backbones import build_backbone
from lossbench.training.attributes import Attributes, NotCopied, alike


class Kept(nn.Module):
    """A module with attributes of many kinds, and a layer in a plain list."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(2, 2)
        self.register_buffer("mean", torch.zeros(2))
        self.count, self.text, self.name, self.nothing, self.steps = 0, "x", "y", None, [0]
        self.latest, self.table, self.seen = deque([1], maxlen=3), {"a": [1]}, {1}
        self.array, self.aside, self.held = np.zeros(2), torch.zeros(2), [torch.zeros(2)]
        self.object = SimpleNamespace(list=[1], tensor=torch.zeros(2))
        self.chance, self.layers = random.Random(0), [nn.BatchNorm1d(2)]
        self.table["again"] = self.steps


CHANGES = {
    "count": lambda m: setattr(m, "count", 1),
    "text": lambda m: setattr(m, "text", "y"),
    "nothing": lambda m: setattr(m, "nothing", torch.ones(1)),
    "steps": lambda m: m.steps.append(1),
    "latest": lambda m: m.latest.append(2),
    "table": lambda m: m.table["a"].append(2),
    "seen": lambda m: m.seen.add(2),
    "array": lambda m: m.array.fill(1),
    "aside": lambda m: setattr(m, "aside", 3),
    "held": lambda m: m.held.append(torch.zeros(2)),
    "object": lambda m: m.object.list.append(2),
    "chance": lambda m: m.chance.random(),
    "new": lambda m: setattr(m, "new", 1),
    "name": lambda m: delattr(m, "name"),
    "layers[0].momentum": lambda m: setattr(m.layers[0], "momentum", 0.5),
    "inner.training": lambda m: m.inner.eval(),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_is_found_named_and_taken_back(what):
    module = Kept()
    before = Attributes({"net": module})
    assert not before.changed()
    assert before.difference(Attributes({"net": module})) == ""
    CHANGES[what](module)
    after = Attributes({"net": module})
    assert before.changed()
    assert before.difference(after) == f"net.{what}"
    assert after.difference(before) != ""
    before.restore()
    assert not before.changed()
    assert before.difference(Attributes({"net": module})) == ""
    CHANGES[what](module)
    assert after.difference(Attributes({"net": module})) == "", "the copies have not been changed meanwhile"


def test_what_has_not_changed_stays_the_same_object_and_what_is_shared_stays_shared():
    module = Kept()
    before, tensors = Attributes({"net": module}), (module.aside, module.held[0], module.object.tensor)
    table, array = module.table, module.array
    module.count += 1
    before.restore()
    assert module.table is table
    assert module.array is array
    module.steps.append(1)
    before.restore()
    assert module.steps is module.table["again"]
    assert all(a is b for a, b in zip(tensors, (module.aside, module.held[0], module.object.tensor), strict=True))


def test_tensors_and_modules_are_found_wherever_they_are_held():
    found = Attributes({"net": Kept()})
    assert list(found.tensors) == [
        "net.mean", "net.inner.weight", "net.inner.bias", "net.aside", "net.held[0]", "net.object.tensor",
        "net.layers[0].weight", "net.layers[0].bias", "net.layers[0].running_mean", "net.layers[0].running_var",
        "net.layers[0].num_batches_tracked",
    ]  # fmt: skip
    assert list(found.modules) == ["net", "net.inner", "net.layers[0]"]


def test_parameters_buffers_and_layers_that_are_replaced_or_new_are_taken_back():
    module = Kept()
    before, mean, weight = Attributes({"net": module}), module.mean, module.inner.weight
    module.mean = torch.zeros(2)
    assert before.changed(), "another tensor, though its numbers are the same"
    module.more, module.inner.weight = nn.Linear(2, 2), nn.Parameter(torch.ones(2, 2))
    before.restore()
    assert module.mean is mean
    assert module.inner.weight is weight
    assert not hasattr(module, "more")


@pytest.mark.parametrize("kept", [threading.Lock(), (i for i in range(3)), torch.jit.ScriptModule()])
def test_what_cannot_be_copied_is_refused(kept):
    module = nn.Linear(2, 2)
    module.kept = [kept] if not isinstance(kept, nn.Module) else kept
    with pytest.raises(NotCopied, match=r"^an attribute cannot be copied: TypeError: "):
        Attributes({"net": module})


@pytest.mark.parametrize("loss", heads())
def test_every_loss_can_be_copied_and_has_not_changed_then(loss):
    copied = Attributes({"head": load_head(loss, num_classes=3, embedding_dim=8)})
    assert not copied.changed()


@pytest.mark.parametrize("backbone", ["tiny", "small", "resnet18", "mobilefacenet", "iresnet18", "mobilenet_v3_small"])
def test_every_kind_of_backbone_can_be_copied_and_has_not_changed_then(backbone):
    copied = Attributes({"backbone": build_backbone(backbone, embedding_dim=8)})
    assert not copied.changed()


def cycle():
    made = [1]
    made.append(made)
    return made


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (float("nan"), float("nan") * 1, True),
        (0.0, -0.0, False),
        (1, 1.0, False),
        (True, 1, False),
        ([1, [2, 3]], [1, [2, 3]], True),
        ([1, [2, 3]], [1, [2, 4]], False),
        ([1, 2], [1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, False),
        (np.array([np.nan]), np.array([np.nan]), True),
        (np.zeros(2), np.zeros(2, np.float32), False),
        (np.array([[1], None], object), np.array([[1], None], object), True),
        (functools.partial(max, 1), functools.partial(max, 1), True),
        (functools.partial(max, 1), functools.partial(max, 2), False),
        (iter([1, 2]), iter([1, 2]), True),
        (torch.device("cpu"), torch.device("cpu"), True),
        (torch.zeros(1), torch.zeros(1), False),
        (cycle(), cycle(), True),
    ],
)
def test_values_are_alike_to_the_last_bit(a, b, same):
    assert alike(a, b) is same


def test_tensors_are_compared_as_asked():
    assert alike([torch.zeros(1)], [torch.ones(1)], lambda a, b: True)
    assert not alike([torch.zeros(1)], [torch.zeros(1)], lambda a, b: False)
