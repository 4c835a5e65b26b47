"""Which device a name stands for, and what deterministic computation allows there."""

import subprocess
import sys

import pytest
import torch

from lossbench.errors import InputError
from lossbench.utils.device import be_deterministic, device_of, in_any_order


@pytest.fixture
def _as_before():
    before = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = True  # torch's default
    yield
    torch.set_deterministic_debug_mode(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


def test_auto_is_the_gpu_where_there_is_one():
    assert device_of("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_of("cpu") == torch.device("cpu")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tpu", "is not known; use auto, cpu or cuda"),
        ("", "is not known; use auto, cpu or cuda"),
        ("cuda:x", "is not known; use auto, cpu or cuda"),
        ("cpu:1", "is not supported; use auto, cpu or cuda"),
        ("meta", "is not supported; use auto, cpu or cuda"),
        ("mps", "is not supported; use auto, cpu or cuda"),
    ],
)
def test_other_devices_are_refused_in_one_line(name, says):
    with pytest.raises(InputError, match=rf"\A--device '{name}' {says}\Z"):
        device_of(name)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_one_line(name):
    with pytest.raises(InputError, match=rf"\A--device '{name}': this machine has no usable CUDA device; use cpu\Z"):
        device_of(name)


def scatter():
    """Write two values to one place: which of them stays is undefined."""
    torch.zeros(3).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]))


@pytest.mark.usefixtures("_as_before")
def test_what_may_compute_other_bits_is_refused_and_new_memory_is_not_filled(monkeypatch):
    monkeypatch.delattr(torch, "use_deterministic_algorithms")  # imports torch._inductor, which takes a second
    scatter()
    be_deterministic(torch.device("cpu"))
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        scatter()
    assert not torch.empty(1 << 22).isnan().all(), "torch filled it, which costs time"


@pytest.mark.parametrize("first", ["", "import torch._inductor.config; "], ids=["imported later", "imported before"])
def test_what_a_plugin_compiles_is_deterministic_too(first):
    """Without it torch.compile times kernels and takes the fastest, whose bits differ from run to run."""
    code = f"import sys, torch; from lossbench.utils.device import be_deterministic; {first}"
    code += "be_deterministic(torch.device('cpu')); print('torch._inductor' in sys.modules); "
    code += "import torch._inductor.config as config; print(getattr(config, 'deterministic', True))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(bool(first)), "True"]


@pytest.mark.usefixtures("_as_before")
def test_places_are_written_in_any_order_only_inside():
    be_deterministic(torch.device("cpu"))
    with in_any_order():
        assert not torch.are_deterministic_algorithms_enabled()
    assert torch.are_deterministic_algorithms_enabled()
    with pytest.raises(KeyError), in_any_order():
        raise KeyError
    assert torch.are_deterministic_algorithms_enabled()
