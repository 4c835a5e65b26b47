"""What the machine and the software are, as a record keeps it."""

import platform
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def peak_memory_mib(device: "torch.device") -> float | None:
    """Return the peak memory of the device; on the CPU of this process so far, None where the system does not tell."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would also count the process that started this one
        high = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(), re.MULTILINE)
        return int(high[1]) / 2**10 if high else None
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def machine_facts(device: "torch.device") -> dict[str, Any]:
    """Return what the machine and the software were."""
    import torch

    return {
        "lossbench": lossbench_version(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": torch.cuda.get_device_name(device)
        if device.type == "cuda"
        else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }


def lossbench_version() -> str:
    """Return the version of the installed package; ``unknown`` in a checkout that was never installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lossbench")
    except PackageNotFoundError:
        return "unknown"
