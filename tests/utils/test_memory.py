"""Memory that is freed stays with the process, whichever thread freed it."""

import platform
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from lossbench.utils.memory import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
import torch

def step(number):
    torch.ones(2**24)  # 64 MiB, more than glibc keeps of itself
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

with ThreadPoolExecutor(1) as pool:
    faults = [*map(step, range(24))] if sys.argv[2] == "main" else [*pool.map(step, range(24))]
print(faults[-1] - faults[11])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize("thread", ["main", "another"])
def test_memory_freed_by_one_step_serves_the_next(thread):
    def faults(how):
        command = [sys.executable, "-c", FAULTS, how, thread]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert faults("kept") < faults("given back") / 4
