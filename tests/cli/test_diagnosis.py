"""What is slow or broken on which machine: one line each, with the cure, and none on a good one."""

import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch

from lossbench.cli.diagnosis import Cache, Machine, broken_here, examined, size_text, slow_here
from lossbench.utils.system import Memory

GIB = 2**30
GOOD = Machine(
    versions={"lossbench": "1.0", "torch": "2.5"},
    extras={"timm": False},
    cache=Cache("/cache", 3, GIB, 100 * GIB, "ext4", writable=True),
    memory=Memory(64 * GIB, 50 * GIB),
    cores=16,
    cores_allowed=None,
    load=1.0,
    threads=16,
    gpu="NVIDIA H100",
    gpu_memory=80 * GIB,
    cuda="12.4",
    nvidia_driver=True,
    simd="AVX512",
)


def test_nothing_is_slow_or_broken_on_a_good_machine():
    assert [*slow_here(GOOD), *broken_here(GOOD)] == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"gpu": None, "nvidia_driver": False}, "no GPU: training runs on the CPU"),
        ({"gpu": None, "cuda": None}, "torch (a build without CUDA) finds no GPU"),
        ({"gpu": None}, "torch (built for CUDA 12.4) finds no GPU"),
        ({"threads": 32}, "torch uses 32 threads, and this process may use 16 cores: they wait for each other"),
        ({"cores_allowed": 2.5}, "set OMP_NUM_THREADS=2, or give run --threads"),
        ({"threads": 4, "environment": {"OMP_NUM_THREADS": "4"}}, "unset it, or give run --jobs 4"),
        ({"load": 40.0}, "a load of 40.0 on 16"),
        ({"simd": "DEFAULT"}, "no AVX2"),
        ({"cache": replace(GOOD.cache, file_system="nfs4")}, "lies on a network disk (nfs4)"),
        ({"memory": Memory(64 * GIB, GIB)}, "only 1.0 GiB of memory are free"),
        ({"compiled_at_every_start": True}, "PYTHONDONTWRITEBYTECODE is set"),
    ],
)
def test_what_is_slow_is_said_once_with_its_cure(changes, says):
    (line,) = slow_here(replace(GOOD, **changes))
    assert says in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"torch_error": "ImportError: libcudart"}, "torch cannot be imported (ImportError: libcudart); reinstall it"),
        ({"versions": {"torch": "2.5", "scipy": None, "pandas": None}}, "scipy and pandas are not installed"),
        ({"cache": replace(GOOD.cache, writable=False)}, "the cache /cache cannot be written; set LOSSBENCH_CACHE"),
        ({"cache": replace(GOOD.cache, free=GIB // 4)}, "only 0.2 GiB are free on the disk of the cache, /cache"),
    ],
)
def test_what_is_broken_is_said_once_with_its_cure(changes, says):
    (line,) = broken_here(replace(GOOD, **changes))
    assert says in line


def test_what_is_examined_is_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("LOSSBENCH_CACHE", str(tmp_path / "cache"))
    found = examined()
    assert found.versions["torch"] == version("torch")
    assert found.threads == torch.get_num_threads()
    assert (found.gpu is not None) == torch.cuda.is_available()
    assert found.cores == len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else found.cores > 0
    assert (found.cache.folder, found.cache.stores, found.cache.size) == (str(tmp_path / "cache"), 0, 0)
    assert found.cache.writable
    assert found.environment["LOSSBENCH_CACHE"] == str(tmp_path / "cache")
    assert found.extras["dev"] is True, "the tests run with it"


def test_a_torch_that_cannot_be_imported_is_a_finding(tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libcudart.so.12: cannot open shared object file')\n")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    words = [sys.executable, "-m", "lossbench", "doctor"]
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    assert "broken: torch cannot be imported (OSError: libcudart.so.12: cannot open shared object file)" in done.stdout


def test_sizes_are_readable():
    assert [size_text(n) for n in (None, 5 * 2**20, 3 * GIB)] == ["unknown", "5.0 MiB", "3.0 GiB"]
