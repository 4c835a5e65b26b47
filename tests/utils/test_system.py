"""What the system gives this process, beside what other readers of the same facts say."""

import os
import shutil
from pathlib import Path

import pytest

from lossbench.utils import system
from lossbench.utils.system import cores_allowed, existing, file_system, free_disk, memory

MOUNTS = r"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /home rw shared:2 - nfs4 server:/home rw
31 30 0:27 / /home/me/fast\040disk rw - xfs /dev/sdb1 rw
32 22 0:28 / /data rw - fuse.sshfs host: rw
33 22 0:29 / /data rw - btrfs /dev/sdc1 rw
nonsense
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/cache", "ext4"),
        ("/home/me/.cache", "nfs4"),
        ("/home/me/fast disk/cache", "xfs"),
        ("/homeless", "ext4"),
        ("/data/x", "btrfs"),
    ],
)
def test_the_mount_that_a_path_lies_on(path, kind):
    assert file_system(Path(path), MOUNTS) == kind


def test_a_system_without_mounts_says_nothing():
    assert file_system(Path("/home"), "") == ""


def test_a_folder_that_is_yet_to_be_made_lies_where_its_parent_does(tmp_path):
    wanted = tmp_path / "a" / "b"
    assert existing(wanted) == tmp_path
    assert file_system(wanted) == file_system(tmp_path)
    assert free_disk(wanted) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.2)


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="needs Linux")
def test_memory_is_what_the_kernel_has():
    found = memory()
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert 0 < found.available <= found.total <= physical * 1.01


def test_the_limit_of_a_container_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(system, "_CGROUP", tmp_path)
    whole = memory()
    assert cores_allowed() is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert (memory().total, cores_allowed()) == (whole.total, None)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert (memory(), cores_allowed()) == ((1_000_000, 600_000), 1.5)
