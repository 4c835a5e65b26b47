"""The faces in every photo, found in parallel. What is found is kept as it comes, so that a later try continues.

A line is a photo: its SHA-256, its size, and all faces in it. It is taken for that very content
and detector alone.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lossbench.data.images.decode import decode, read_bytes
from lossbench.data.images.unreadable import unreadable
from lossbench.data.prepare.mtcnn import Face, detector, detector_version
from lossbench.errors import InputError
from lossbench.utils.files import heed_fence
from lossbench.utils.processes import cores, in_parallel

_CHUNK = 8  # photos handed to a process at a time: a large one takes a second
_FEW = 32  # photos that this process looks at by itself


@dataclass(frozen=True)
class Found:
    """What was found in a photo: the SHA-256 of its bytes, its width and height, and its faces, the surest first."""

    sha256: str
    size: tuple[int, int]
    faces: tuple[Face, ...]


def detect_faces(
    photos: Mapping[str, Path],
    known: Mapping[str, Found],
    journal: Path | None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    workers: int | None = None,
) -> dict[str, Found]:
    """Return what is found in every photo, whatever the number of processes.

    Args:
        photos: files by name.
        known: what `read_detections` returned; photos whose content changed are looked at again.
        journal: where a line per photo is appended as it comes; None for nowhere.
        on_progress: called with photos done and photos in all.
        workers: processes; if None, one per core.

    Raises:
        InputError: photos that cannot be read; all of them are named.
        OSError: the journal cannot be written.
    """
    version = detector_version()
    jobs = [(name, file, known.get(name)) for name, file in photos.items()]
    if workers is None:
        workers = cores() if len(jobs) > _FEW else 1
    found: dict[str, Found] = {}
    bad: list[str] = []
    lines = journal.open("a", encoding="utf-8") if journal else None
    try:
        for (name, _, before), one in zip(jobs, in_parallel(_look, jobs, workers=workers, chunk=_CHUNK), strict=True):
            if isinstance(one, str):
                bad.append(one)
            else:
                found[name] = one
                if lines and one != before:
                    heed_fence()
                    lines.write(_line(name, one, version))
                    lines.flush()
            on_progress(len(found) + len(bad), len(jobs))
    finally:
        if lines:
            lines.close()
    if bad[1:] and (not found or journal is None):
        raise InputError(f"{bad[0]} ({len(bad):,} of {len(jobs):,} photos cannot be used)")
    if bad:
        raise unreadable(bad, journal.parent if journal else Path(), "photos")
    return found


def _look(job: tuple[str, Path, Found | None]) -> Found | str:
    """Find the faces in one photo, or say why it cannot be read; runs in a worker process."""
    _, file, known = job
    try:
        data = read_bytes(file)
        sha256 = hashlib.sha256(data).hexdigest()
        if known is not None and known.sha256 == sha256:
            return known
        image = decode(data, file)
        return Found(sha256, image.size, tuple(detector().faces(np.asarray(image))))
    except InputError as error:
        return str(error)


def detections_text(found: Mapping[str, Found]) -> str:
    """Return a line per photo, as `read_detections` reads them."""
    version = detector_version()
    return "".join(_line(name, one, version) for name, one in found.items())


def _line(name: str, found: Found, version: str) -> str:
    return json.dumps({"photo": name, "detector": version, **asdict(found)}, ensure_ascii=False) + "\n"


def read_detections(file: Path) -> dict[str, Found]:
    """Return what an earlier try found with this detector; torn or damaged lines are passed over."""
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return {}
    version, found = detector_version(), {}
    for line in lines:
        try:
            row = json.loads(line)
            if row["detector"] == version:
                found[str(row["photo"])] = Found(str(row["sha256"]), _two(row["size"]), tuple(map(_face, row["faces"])))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            continue
    return found


def _face(row: Mapping[str, Any]) -> Face:
    box, points = _numbers(row["box"], 4), _numbers(row["points"], 10)
    return Face((box[0], box[1], box[2], box[3]), float(row["confidence"]), points)


def _numbers(values: Sequence[Any], count: int) -> tuple[float, ...]:
    numbers = tuple(map(float, values))
    if len(numbers) != count or not np.isfinite(numbers).all():
        raise ValueError("not so many finite numbers")
    return numbers


def _two(values: Sequence[Any]) -> tuple[int, int]:
    width, height = map(int, values)
    return width, height
