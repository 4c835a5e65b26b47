"""Tests of what only CUDA can show; elsewhere each is skipped with a reason. tests/perf/gpu.py runs them all."""

import pytest
import torch

from lossbench.utils.device import be_deterministic


@pytest.fixture(autouse=True, scope="session")
def _needs_cuda():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: torch.cuda.is_available() is False here")
    be_deterministic(torch.device("cuda"))  # as every run of lossbench: some operations wait for the device then


@pytest.fixture
def cuda() -> torch.device:
    return torch.device("cuda")
