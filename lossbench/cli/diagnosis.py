"""What `lossbench doctor` examines, and what follows: what is slow here and why, and what is broken."""

import importlib.util
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any

import lossbench
from lossbench.utils.machine import lossbench_version
from lossbench.utils.processes import cores
from lossbench.utils.system import NETWORKED, Memory, cores_allowed, existing, file_system, free_disk, memory
from lossbench.utils.text import described, listed

_GIB = 2**30
_LITTLE_DISK, _LITTLE_MEMORY = 1 * _GIB, 2 * _GIB
_USUAL = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "pillow", "typer", "rich")


@dataclass(frozen=True)
class Cache:
    """The folder of decoded images: its stores and their bytes, the bytes free on its disk, and the disk's type."""

    folder: str
    stores: int
    size: int
    free: int
    file_system: str
    writable: bool


@dataclass(frozen=True)
class Machine:
    """What `lossbench doctor` finds. Sizes are bytes; `gpu` is None without a GPU that torch can use."""

    versions: dict[str, str | None]
    extras: dict[str, bool]
    cache: Cache
    memory: Memory
    cores: int
    cores_allowed: float | None
    load: float | None
    threads: int | None = None  # of torch
    gpu: str | None = None
    gpu_memory: int | None = None
    cuda: str | None = None  # that torch was built for
    nvidia_driver: bool = False
    simd: str = ""  # the widest instructions that torch uses
    compiled_at_every_start: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    torch_error: str = ""


def examined() -> Machine:
    """Look at this machine and at what is installed."""
    required, extras = _requirements()
    return Machine(
        versions={
            "lossbench": lossbench_version(),
            "python": platform.python_version(),
            **{name: _version(name) for name in required},
        },
        extras={name: all(map(_version, packages)) for name, packages in extras.items()},
        cache=_cache(),
        memory=memory(),
        cores=cores(),
        cores_allowed=cores_allowed(),
        load=os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        nvidia_driver=Path("/proc/driver/nvidia/version").exists(),
        compiled_at_every_start=_compiled_at_every_start(),
        environment={name: os.environ[name] for name in _VARIABLES if name in os.environ},
        **_torch_facts(),
    )


_VARIABLES = (
    "LOSSBENCH_CACHE",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "CUDA_VISIBLE_DEVICES",
    "PYTHONDONTWRITEBYTECODE",
)


def slow_here(found: Machine) -> Iterator[str]:
    """Yield a line for everything that makes lossbench slower here than it has to be: what, why, and the cure."""
    if found.gpu is None and not found.torch_error:
        if found.nvidia_driver:
            build = "a build without CUDA" if found.cuda is None else f"built for CUDA {found.cuda}"
            yield (
                f"an NVIDIA driver is here, but torch ({build}) finds no GPU: install the torch that fits the driver, "
                "and look at CUDA_VISIBLE_DEVICES"
            )
        else:
            yield (
                "no GPU: training runs on the CPU, where only the backbones tiny and small are quick; use a machine "
                "with a GPU for the others"
            )
    usable = found.cores if found.cores_allowed is None else min(found.cores, found.cores_allowed)
    if found.threads is not None and found.threads > max(1, usable):
        yield (
            f"torch uses {found.threads} threads, and this process may use {usable:g} cores: they wait for each other; "
            f"set OMP_NUM_THREADS={max(1, int(usable))}, or give run --threads"
        )
    elif found.threads is not None and "OMP_NUM_THREADS" in found.environment and found.threads < int(usable):
        yield (
            f"torch uses {found.threads} of {usable:g} cores, as OMP_NUM_THREADS="
            f"{found.environment['OMP_NUM_THREADS']} says; unset it, or give run --jobs {int(usable) // found.threads}"
        )
    if found.load is not None and found.load > 1.5 * found.cores:
        yield f"other processes keep the cores busy: a load of {found.load:.1f} on {found.cores}; wait, or end them"
    if found.simd in ("DEFAULT", "NO AVX"):
        yield "torch finds no AVX2 instructions here, which the CPU's matrix products rely on; use a newer processor"
    if found.cache.file_system in NETWORKED:
        yield (
            f"the cache {found.cache.folder} lies on a network disk ({found.cache.file_system}), from which images are "
            "read in training; set LOSSBENCH_CACHE to a folder on a local disk"
        )
    if found.memory.available is not None and found.memory.available < _LITTLE_MEMORY:
        yield f"only {size_text(found.memory.available)} of memory are free: images are read from the disk again"
    if found.compiled_at_every_start:
        yield ("PYTHONDONTWRITEBYTECODE is set and lossbench is not compiled: each command compiles it again; unset it")


def broken_here(found: Machine) -> Iterator[str]:
    """Yield a line for everything that would make a command fail: what, and the cure."""
    if found.torch_error:
        cure = "pip install --force-reinstall torch torchvision"
        yield f"torch cannot be imported ({found.torch_error}); reinstall it: {cure}"
    if missing := [name for name, known in found.versions.items() if known is None]:
        yield f"{listed(missing)} {'is' if len(missing) == 1 else 'are'} not installed; run: pip install lossbench"
    if not found.cache.writable:
        yield f"the cache {found.cache.folder} cannot be written; set LOSSBENCH_CACHE to another folder"
    elif found.cache.free < _LITTLE_DISK:
        yield (
            f"only {size_text(found.cache.free)} are free on the disk of the cache, {found.cache.folder}; make room: "
            "lossbench data cache --clear, or set LOSSBENCH_CACHE"
        )


def size_text(count: int | None) -> str:
    """Return a number of bytes as people read it."""
    if count is None:
        return "unknown"
    return f"{count / _GIB:,.1f} GiB" if count >= _GIB / 10 else f"{count / 2**20:,.1f} MiB"


def _requirements() -> tuple[tuple[str, ...], dict[str, list[str]]]:
    """Return the packages that lossbench needs, and those of each extra, as its metadata names them."""
    try:
        lines = requires("lossbench") or []
    except PackageNotFoundError:  # a checkout that was never installed
        return _USUAL, {}
    needed: list[str] = []
    extras: dict[str, list[str]] = {}
    for line in lines:
        name = re.match(r"[A-Za-z0-9._-]+", line)
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", line)
        if name:
            (extras.setdefault(extra[1], []) if extra else needed).append(name[0])
    return tuple(needed), extras


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _torch_facts() -> Mapping[str, Any]:
    """Return the fields of `Machine` that only torch knows; its error where it cannot be imported."""
    try:
        import torch
    except (ImportError, OSError, RuntimeError) as error:  # a missing library of the system, too
        return {"torch_error": described(error)}
    facts = {
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "simd": torch.backends.cpu.get_cpu_capability(),
    }
    if torch.cuda.is_available():
        facts |= {"gpu": torch.cuda.get_device_name(), "gpu_memory": torch.cuda.get_device_properties(0).total_memory}
    return facts


def _cache() -> Cache:
    from lossbench.data.images.store import cache_folder, stores

    folder = cache_folder()
    found, place = stores(folder), existing(folder)
    return Cache(
        folder=str(folder),
        stores=len(found),
        size=sum(one.size for one in found),
        free=free_disk(folder),
        file_system=file_system(folder),
        writable=place.is_dir() and os.access(place, os.W_OK | os.X_OK),
    )


def _compiled_at_every_start() -> bool:
    """Return whether Python may not keep our bytecode, and nobody has made it, as pip does."""
    return sys.dont_write_bytecode and not Path(importlib.util.cache_from_source(lossbench.__file__)).exists()
