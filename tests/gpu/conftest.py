"""Tests of what only CUDA can show; elsewhere each is skipped with a reason. tests/perf/gpu.py runs them all."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _needs_cuda():
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device: torch.cuda.is_available() is False here")


@pytest.fixture
def cuda() -> torch.device:
    return torch.device("cuda")
