"""The device to compute on, and deterministic computation on it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from lossbench.errors import InputError


def device_of(name: str) -> torch.device:
    """Return the device that ``--device`` names; ``auto`` is the GPU where there is one.

    Raises:
        InputError: no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device '{name}' is not known; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device '{name}': this machine has no usable CUDA device; use cpu")
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index):
        raise InputError(f"--device '{name}' is not supported; use auto, cpu or cuda")
    return device


def be_deterministic(device: torch.device) -> None:
    """Make torch compute the same bits every time; to be called before anything is computed on the device."""
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.backends.cudnn.benchmark = False
    # Not by use_deterministic_algorithms, which imports torch._inductor to tell it as well: 1.6 s of each command.
    torch.set_deterministic_debug_mode("error")
    os.environ.setdefault("TORCHINDUCTOR_DETERMINISTIC", "1")  # read where a plugin's torch.compile imports it later
    inductor: Any = sys.modules.get("torch._inductor.config")
    if hasattr(inductor, "deterministic"):  # older torch has no such mode
        inductor.deterministic = True
    # Filling costs time, and nothing here reads such memory. The stubs do not know the property.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


@contextmanager
def in_any_order() -> Iterator[None]:
    """Let operations in here write in any order: where no place is written twice, or only whole numbers are added.

    The result is the same. But in deterministic mode a GPU sorts the places first and checks them on the host, so that
    scattering waits for it and fits in no CUDA graph.
    """
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(before)
