"""What the system gives this process: memory, cores, and the kind of disk below a path. Without torch."""

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

#: File systems whose files lie on another machine.
NETWORKED = {
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "afs", "9p", "davfs",
    "fuse.sshfs", "fuse.s3fs", "fuse.rclone", "fuse.gcsfuse", "fuse.glusterfs", "fuse.ceph", "fuse.davfs",
}  # fmt: skip
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")
_UNLIMITED = 2**60  # bytes: what cgroups of version 1 write where there is no limit is more


class Memory(NamedTuple):
    """Main memory in bytes: what this process may have, and what is free now. None where the system does not tell."""

    total: int | None
    available: int | None


def memory() -> Memory:
    """Return the main memory; of a container its limit, where that is less."""
    total = available = None
    text = _text(Path("/proc/meminfo"))
    found = dict(re.findall(r"^(MemTotal|MemAvailable):\s*(\d+) kB$", text, re.MULTILINE))
    if "MemTotal" in found:
        total, available = int(found["MemTotal"]) * 2**10, int(found.get("MemAvailable", 0)) * 2**10 or None
    elif hasattr(os, "sysconf") and {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= os.sysconf_names.keys():
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit, used in _LIMITS:
        most = _number(_CGROUP / limit)
        if most is not None and most < min(_UNLIMITED, total or _UNLIMITED):
            free = max(0, most - (_number(_CGROUP / used) or 0))
            total, available = most, free if available is None else min(available, free)
    return Memory(total, available)


def cores_allowed() -> float | None:
    """Return how many cores' time a container may use, where it is limited."""
    quota, _, period = _text(_CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and period.strip().isdigit():
        return int(quota) / int(period)
    spent, every = _number(_CGROUP / "cpu/cpu.cfs_quota_us"), _number(_CGROUP / "cpu/cpu.cfs_period_us")
    return spent / every if spent and every else None


def existing(path: Path) -> Path:
    """Return a path, or the nearest folder above it that exists."""
    return next(place for place in (path, *path.absolute().parents) if place.exists())


def free_disk(path: Path) -> int:
    """Return the free bytes on the disk of a path, which need not exist."""
    return shutil.disk_usage(existing(path)).free


def file_system(path: Path, mounts: str | None = None) -> str:
    """Return the type of the file system that a path lies on, which need not exist; empty where the system hides it.

    Args:
        path: anywhere.
        mounts: the text of /proc/self/mountinfo; read when None.

    Example:
        >>> mounts = "31 1 0:5 / / rw - ext4 /dev/sda rw\\n40 31 0:9 / /mnt/share rw - nfs4 s:/x rw"
        >>> file_system(Path("/mnt/share/faces"), mounts), file_system(Path("/home"), mounts)
        ('nfs4', 'ext4')
    """
    text = _text(Path("/proc/self/mountinfo")) if mounts is None else mounts
    place, best, kind = existing(path).resolve() if mounts is None else path, -1, ""
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, types = left.split(), right.split()
        if len(fields) < 5 or not types:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])  # a space is written \040
        if place.is_relative_to(point) and len(point) >= best:  # a later mount covers an earlier one
            best, kind = len(point), types[0]
    return kind


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # another system, or a closed one
        return ""


def _number(path: Path) -> int | None:
    text = _text(path).strip()
    return int(text) if text.isdigit() else None
