"""What a record says of the machine, against what the system and Python say themselves."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lossbench.utils.machine import machine_facts

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")

CHILD = """
from types import SimpleNamespace
from lossbench.utils.machine import peak_memory_mib
cpu = SimpleNamespace(type="cpu")  # torch takes seconds to import
before = peak_memory_mib(cpu)
block = bytearray(b"x") * (200 << 20)
del block
print(before, peak_memory_mib(cpu))
"""
PARENT = """
import subprocess, sys
block = bytearray(b"x") * (400 << 20)
subprocess.run([sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count the parent too")
def test_peak_memory_is_of_this_process_alone_and_stays_when_memory_is_freed():
    done = subprocess.run([sys.executable, "-c", PARENT, "-c", CHILD], capture_output=True, text=True, check=True)
    before, after = map(float, done.stdout.split())
    assert 5 < before < 300, "the memory of the process that started it is counted"
    assert 150 < after - before < 250


def test_machine_facts_are_those_of_this_process():
    facts = machine_facts(CPU)
    assert facts["python"] == ".".join(map(str, sys.version_info[:3]))
    assert facts["threads"] == torch.get_num_threads()
    assert os.uname().machine in facts["system"]
    assert facts["device"]
    assert set(facts) == {"lossbench", "python", "system", "device", "threads"}


@pytest.mark.parametrize(("installed", "version"), [(True, "9.8.7"), (False, "unknown")])
def test_the_version_is_that_of_the_installed_package(tmp_path, installed, version):
    """-S hides what is really installed."""
    if installed:
        folder = tmp_path / "lossbench-9.8.7.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: lossbench\nVersion: 9.8.7\n")
    code = "from lossbench.utils.machine import lossbench_version; print(lossbench_version())"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == (f"{version}\n", "")
