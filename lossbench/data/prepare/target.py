"""The folder that a preparation makes: built hidden beside its place, under a claim, and renamed when it is whole.

The hidden folder, ``.NAME.preparing``, is kept if it holds finished crops or the faces found in photos: the same
command continues from them.
"""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lossbench.errors import InputError
from lossbench.utils.claims import ClaimLost, claimed
from lossbench.utils.files import heed_fence
from lossbench.utils.text import shown

DETECTIONS = "detections.jsonl"  # the faces found in photos, a line for each


def work_folder(out: Path) -> Path:
    """Return the hidden folder in which `out` is made; it is gone when `out` is whole."""
    return out.absolute().with_name(f".{out.name}.preparing")


def finished_crops(out: Path) -> int:
    """Return how many crops an interrupted preparation of `out` left for the next one."""
    try:
        return sum(1 for place in ("crops", "tree/*") for _ in work_folder(out).glob(f"{place}/*/*.jpg"))
    except OSError:  # a name longer than any that a disk can hold
        return 0


def detections(out: Path) -> Path:
    """Return where the faces found in photos of `out` are kept until it is whole."""
    return work_folder(out) / DETECTIONS


def waiting(out: Path) -> str:
    """Say what an interrupted preparation of `out` left for the next one, and where; empty if nothing waits."""
    crops, place = finished_crops(out), shown(work_folder(out))
    if crops:
        return f"{crops:,} finished crops wait in {place}"
    return f"the faces found so far wait in {place}" if _has_detections(out) else ""


def _has_detections(out: Path) -> bool:
    try:
        return detections(out).stat().st_size > 0
    except OSError:
        return False


def refuse_in_use(out: Path) -> None:
    """Refuse a target that exists, unless it is an empty folder.

    Raises:
        InputError: it exists and is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"--out: {shown(out)} exists and is not an empty folder; choose another folder or delete it")


@contextmanager
def alone(out: Path) -> Iterator[Path]:
    """Give the work folder of `out` to this preparation alone; in the end, it is deleted unless work waits in it.

    Raises:
        InputError: another process is preparing the same target, or has just made it.
        OSError: the folder cannot be written.
    """
    work = work_folder(out)
    try:
        with claimed(work / "claims", work) as mine:
            if not mine:
                raise InputError(f"--out: another process is preparing {shown(out)}; wait until it is done")
            try:
                refuse_in_use(out)
                yield work
            finally:
                if not waiting(out):
                    heed_fence()  # else it is another process's by now
                    shutil.rmtree(work, ignore_errors=True)
    except ClaimLost as lost:
        raise InputError(f"--out: {shown(out)} was left to another process: {lost}") from None


def put_in_place(made: Path, out: Path) -> None:
    """Rename a finished folder to the target."""
    if out.is_dir():
        out.rmdir()
    made.rename(out)
