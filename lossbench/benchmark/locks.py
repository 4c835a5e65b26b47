"""Claims on runs, for the processes that share a results folder on one or many machines.

They are files in ``<benchmark>/.claims/``: `lossbench.utils.claims` says how they work, and what they guarantee where
the folder lies on NFS. No lock of the operating system is needed.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from lossbench.utils import claims
from lossbench.utils.owner import Owner

_SHORT = 60  # seconds to wait for a claim that is only ever held briefly, beside the time after which it is taken over


def claimed(run_folder: Path) -> AbstractContextManager[bool]:
    """Claim a run while the context lasts; yields False at once if another live process holds it.

    Raises:
        ClaimLost: in the context, where a file is to be put in place and another process has taken the run over.
        OSError: the benchmark's folder cannot be written.
    """
    return claims.claimed(_place(run_folder.parent.parent, run_folder.name), run_folder)


@contextmanager
def one_at_a_time(benchmark: Path) -> Iterator[None]:
    """Serialise the processes that share a benchmark's folder.

    Raises:
        OSError: the benchmark's folder cannot be written, another process holds the claim for too long, or took it
            over from this one.
    """
    with claims.alone(_place(benchmark, "benchmark"), benchmark, patience=claims.STALE + _SHORT):
        yield


def is_held(run_folder: Path) -> bool:
    """Return whether a process has claimed a run and has not ended the claim, be it alive or not."""
    return claims.is_held(_place(run_folder.parent.parent, run_folder.name))


def end_of_dead(run_folder: Path, owner: Owner) -> None:
    """End the claim on a run of a process that is known to be dead.

    Raises:
        OSError: the benchmark's folder cannot be written.
    """
    claims.end_of_dead(_place(run_folder.parent.parent, run_folder.name), owner)


def silence(run_folder: Path) -> float:
    """Return for how many seconds the process that holds a run has not said that it lives; 0 if nobody holds it.

    Raises:
        OSError: the benchmark's folder cannot be written.
    """
    return claims.silence(_place(run_folder.parent.parent, run_folder.name))


def _place(benchmark: Path, name: str) -> Path:
    return benchmark / ".claims" / name
