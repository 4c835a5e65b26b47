"""Locks on runs, for the processes that share a results folder.

A claim is a lock of the operating system on a file in ``<benchmark>/.claims/``, so it dies with its process, however
that dies. The empty files stay: deleting one could leave two processes with locks on two files of one name.

Processes on several machines see each other's claims where the shared file system passes locks on: NFS does, through
its lock manager, unless it is mounted with ``nolock`` or ``local_lock``. Without, two machines may train the same run;
the files of the later one stand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

_SHORT = 60  # seconds to wait for a lock that is only ever held briefly


@contextmanager
def claimed(run_folder: Path) -> Iterator[bool]:
    """Claim a run while the context lasts; yields False at once if another live process holds it.

    Raises:
        OSError: the benchmark's folder cannot be written.
    """
    lock = FileLock(_file(run_folder.parent.parent, run_folder.name), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


@contextmanager
def one_at_a_time(benchmark: Path) -> Iterator[None]:
    """Serialise the processes that share a benchmark's folder.

    Raises:
        OSError: the benchmark's folder cannot be written, or another process holds the lock for too long.
    """
    with FileLock(_file(benchmark, "benchmark"), timeout=_SHORT):
        yield


def _file(benchmark: Path, name: str) -> Path:
    folder = benchmark / ".claims"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"
