"""Files of weights that are damaged, hostile, or of kinds that no network starts from: one line, nothing executed."""

import io
import os
import pickle
import random

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torchvision import models

from lossbench.errors import InputError
from lossbench.models.pretrained import start_from
from lossbench.models.resnet import Normalise
from lossbench.models.weights_file import read_weights


@pytest.fixture(scope="module")
def resnet18():
    torch.manual_seed(1)
    return models.resnet18().state_dict()


def saved(path, content):
    torch.save(content, path)
    return path


class Code:
    """What a hostile file does when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def written(folder, how, state):
    """Write a bad file of weights, and return its path."""
    good = saved(folder / "good.pth", state).read_bytes()
    path = folder / ("bad.safetensors" if how == "safetensors" else "bad.pth")
    mark = str(folder / "executed")
    if how == "safetensors":
        path.write_bytes(b"\x00" * 100)
    elif how == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif how == "text":
        path.write_bytes(b"hello world" * 100)
    elif how == "npz":
        with path.open("wb") as file:
            np.savez(file, weight=np.zeros(3))
    elif how == "pickle":
        path.write_bytes(pickle.dumps(Code(mark)))
    else:
        torch.save({"code": {"weight": Code(mark)}, "module": models.resnet18(), "numbers": {"a": 1}}[how], path)
    return path


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("cut", r"is damaged, or no file of weights \(RuntimeError: PytorchStreamReader failed"),
        ("text", "is damaged, or no file of weights"),
        ("npz", "is damaged, or no file of weights"),
        ("safetensors", r"is damaged, or no file of weights \(SafetensorError"),
        (
            "pickle",
            "holds code or objects, or is no file of weights; nothing in it was executed; save the tensors alone",
        ),
        ("code", "holds code or objects"),
        ("module", "holds code or objects"),
        ("numbers", "holds no tensors by name; save them by"),
    ],
)
def test_a_bad_file_is_one_line_and_executes_nothing(tmp_path, resnet18, how, says):
    path = written(tmp_path, how, resnet18)
    with pytest.raises(InputError, match=rf"\A--pretrained {path} {says}[^\n]*\Z"):
        read_weights(path)
    assert not (tmp_path / "executed").exists()


def test_a_bad_file_does_not_harm_when_it_is_really_unpickled(tmp_path):
    """That is, the test above would notice."""
    pickle.loads(pickle.dumps(Code(str(tmp_path / "executed"))))
    assert (tmp_path / "executed").exists()


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e300])
def test_weights_that_are_not_finite_in_single_precision_are_one_line(tmp_path, value):
    bad = {"a.weight": torch.full((3,), value, dtype=torch.float64)}
    with pytest.raises(InputError, match=r"holds values that are not finite, in a.weight\Z"):
        read_weights(saved(tmp_path / "bad.pth", bad))


EYE = torch.eye(3)


@pytest.mark.filterwarnings("ignore")  # torch calls some of these kinds beta or deprecated
@pytest.mark.parametrize(
    ("value", "says"),
    [
        (lambda: EYE.to_sparse(), "a sparse tensor"),
        (lambda: EYE.to_sparse_csr(), "a sparse tensor"),
        (lambda: torch.nested.nested_tensor([EYE, EYE[:2]]), "a nested tensor"),
        (lambda: EYE.to("meta"), "a tensor without data"),
        (lambda: torch.zeros(1).expand(10**13), "a tensor that repeats its values"),
        (lambda: torch.quantize_per_tensor(EYE, 0.1, 0, torch.qint8), "a tensor of type torch.qint8"),
        (lambda: EYE.cfloat(), "a tensor of type torch.complex64"),
        (lambda: EYE.to(torch.float8_e4m3fn), "a tensor of type torch.float8_e4m3fn"),
    ],
)
def test_a_tensor_that_is_no_ordinary_one_is_one_line(tmp_path, value, says):
    path = saved(tmp_path / "bad.pth", {"a.weight": value()})
    with pytest.raises(InputError, match=rf"\A--pretrained {path} holds {says}, a.weight; save [^\n]*\Z"):
        read_weights(path)


def test_attributes_that_a_file_gives_its_tensors_are_left_behind(tmp_path):
    tensor = torch.eye(3)
    tensor.is_floating_point = tensor.isfinite = "not a method"
    found, _ = read_weights(saved(tmp_path / "odd.pth", {"a.weight": tensor}))
    assert torch.equal(found["a.weight"], EYE)


SMALL = nn.Sequential(Normalise((0.5,) * 3, (0.5,) * 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))


def file_of(kind):
    """Return the bytes of a sound file of `SMALL`: .pth as it is now, .pth before torch 1.6, or .safetensors."""
    if kind == "safetensors":
        return safetensors.torch.save(SMALL.state_dict())
    buffer = io.BytesIO()
    torch.save(SMALL.state_dict(), buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_damaged_file_is_read_or_is_one_line(tmp_path, kind, seed):
    """A few bytes changed, some files cut: nothing but InputError is raised, and what is read is finite."""
    draw, sound = random.Random(seed), file_of(kind)
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    refused = []
    for _ in range(100):
        data = bytearray(sound)
        for _ in range(draw.choice([1, 1, 2, 8])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path.write_bytes(data[: draw.randrange(len(data))] if draw.random() < 0.2 else data)
        net = nn.Sequential(Normalise((0.5,) * 3, (0.5,) * 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2))
        try:
            start_from(net, path, "small", lambda text: None)
        except InputError as error:
            refused.append(str(error))
        assert all(tensor.isfinite().all() for tensor in net.state_dict().values())
        assert (net[0].std > 0).all()
    assert 0 < len(refused) < 100
    assert all(line.startswith(f"--pretrained {path}") and len(line.splitlines()) == 1 for line in refused)
