"""From an InsightFace training set to a prepared one: who is in which part. Its images stay where and as they are."""

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lossbench.data.images.decode import decode_quietly, pillow_silent, read_bytes
from lossbench.data.images.recordio import RecordImage
from lossbench.data.packed import ROW, packed_files, texts
from lossbench.data.prepare.duplicates import SIDE, Thumbnails, thumbnail
from lossbench.data.prepare.options import TrainingSetOptions
from lossbench.data.prepare.prepare import Prepared, too_few
from lossbench.data.prepare.rec_set import RecSet
from lossbench.data.prepare.selection import Choice, choose
from lossbench.data.prepare.target import alone, put_in_place, refuse_in_use
from lossbench.data.set_files import is_packed
from lossbench.data.tree import PARTS
from lossbench.errors import InputError
from lossbench.utils.files import write_bytes
from lossbench.utils.machine import lossbench_version
from lossbench.utils.processes import in_parallel
from lossbench.utils.text import shown


@dataclass(frozen=True)
class Opened:
    """An image that can be decoded: its row in the set, the SHA-256 of its encoded bytes, its thumbnail."""

    row: int
    sha256: bytes
    thumbnail: Thumbnails


def prepare_rec(
    found: RecSet,
    out: Path,
    split: TrainingSetOptions,
    *,
    dedupe: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Prepared, list[str]]:
    """Choose who of a training set is in which part, and write that to `out`: split.json and a table of the images.

    Every image of those people is read and decoded once. One that cannot be is left out: it lies in a file that nobody
    can edit.

    Args:
        found: the set.
        out: the folder to make; must not exist, be empty, or be what the same command made.
        split: how many people, shares, seed.
        dedupe: keep near-duplicates together in one split and count them as one image.
        on_progress: called with images looked at and images to look at.

    Returns:
        What was made, and notes about it.

    Raises:
        InputError: options out of range, an image of another size than the set's property says, a target in use, or a
            disk that is full or not writable.
    """
    if out.resolve().is_relative_to(found.root.resolve()):
        raise InputError(f"--out: {shown(out)} is inside the set {shown(found.root)}; choose a folder beside it")
    _refuse_other(out)
    people = texts(found.labels)
    names = [f"{person}/{key}" for person, key in zip(people, texts(found.images.keys), strict=True)]
    counts = Counter(people)
    bad: list[str] = []
    work = _Opener(found, bad, on_progress, dedupe)
    choice = choose(counts, partial(_rows_of, people, names), split, work.open, dedupe=dedupe)
    notes = [*found.notes, *too_few(counts, split)]
    if bad:
        notes.append(f"{len(bad):,} images cannot be used and are left out: {bad[0]}")
    table = _table(found, choice)
    header = {
        "lossbench": lossbench_version(),
        "source": {"kind": "rec", "root": found.root.resolve().as_posix()},
        "parameters": {**asdict(split), "dedupe": dedupe},
        "absent": 0,
        "notes": notes,
        "unreadable": bad,
        "left_out": choice.left_out,
        "passed_over": choice.passed_over,
    }
    try:
        new = _put(packed_files(table, Path(found.images.file), header), out)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--out: {shown(out)} cannot be written ({reason}); choose another place") from error
    parts = table["part"]
    images = {part: int((parts == number).sum()) for number, part in enumerate(PARTS)}
    who = {part: len(np.unique(table["person"][parts == number])) for number, part in enumerate(PARTS)}
    return Prepared(out, images, who, None, tuple(choice.left_out), tuple(choice.passed_over), new), notes


def _rows_of(
    people: Sequence[str], names: Sequence[str], chosen: Mapping[str, Sequence[str]]
) -> tuple[list[int], list[str]]:
    wanted = {person for part in chosen.values() for person in part}
    rows = [row for row, person in enumerate(people) if person in wanted]
    return rows, [names[row] for row in rows]


class _Opener:
    """Opens images of a set in worker processes, and collects what cannot be used."""

    def __init__(self, found: RecSet, bad: list[str], on_progress: Callable[[int, int], None], dedupe: bool):
        self.found, self.bad, self.on_progress = found, bad, on_progress
        self.work, self.any = partial(_open, found.size, dedupe), False

    def open(self, rows: Sequence[int], names: Sequence[str]) -> list[Opened | None]:
        opened: list[Opened | None] = []
        for looked in in_parallel(self.work, [self.found.images[row] for row in rows]):
            row = rows[len(opened)]
            opened.append(None if isinstance(looked, str) else Opened(row, *looked))
            if isinstance(looked, str):
                self.bad.append(looked.rsplit("; ", 1)[0])  # without a cure, which nobody can apply
            self.on_progress(len(opened), len(rows))
        self.any |= any(opened)
        if rows and not self.any:  # in a later round, a few images of those who replace others may all be bad
            raise InputError(f"{self.bad[-len(rows)]} (none of the {len(rows):,} images can be used)")
        return opened


_NONE = np.zeros((SIDE, SIDE), dtype=np.uint8)


def _open(size: tuple[int, int], dedupe: bool, image: RecordImage) -> tuple[bytes, Thumbnails] | str:
    """Look at one image; runs in a worker process."""
    try:
        data = read_bytes(image)
        with pillow_silent():
            decoded = decode_quietly(data, image)
    except InputError as error:
        return str(error)
    if decoded.size != size:
        is_, says = (f"{width}x{height}" for width, height in (decoded.size, size))
        raise InputError(
            f"{shown(image)} is {is_} pixels, and the set's property says {says}; it belongs to another set"
        )
    return hashlib.sha256(data).digest(), thumbnail(decoded) if dedupe else _NONE


def _table(found: RecSet, choice: Choice[Opened]) -> npt.NDArray[np.void]:
    """Return the rows of the images that are in a part, by part, person and key."""
    chosen = [(PARTS.index(part), choice.made[name]) for name, part in choice.part_of.items()]
    rows = np.asarray([one.row for _, one in chosen], dtype=np.int64)
    table = np.zeros(len(rows), ROW)
    table["key"], table["start"] = found.images.keys[rows], found.images.starts[rows]
    table["stop"], table["person"] = found.images.stops[rows], found.labels[rows]
    table["part"] = [part for part, _ in chosen]
    table["sha256"] = np.frombuffer(b"".join(one.sha256 for _, one in chosen), np.uint8).reshape(-1, 32)
    return table[np.lexsort((table["key"], table["person"], table["part"]))]


def _refuse_other(out: Path) -> None:
    """Refuse a target that is in use; one that was prepared is compared when all is known."""
    if not is_packed(out):
        refuse_in_use(out)


def _put(files: Mapping[str, bytes], out: Path) -> bool:
    """Put the files of a set in place; return False where they are there already.

    Raises:
        InputError: other files are there.
        OSError: the folder cannot be written.
    """
    if is_packed(out):
        if all((out / name).is_file() and (out / name).read_bytes() == data for name, data in files.items()):
            return False
        raise InputError(
            f"--out: {shown(out)} was prepared with other data or options; choose another folder or delete it"
        )
    with alone(out) as work:
        made = work / "set"
        shutil.rmtree(made, ignore_errors=True)  # of a process that was killed
        made.mkdir()
        for name, data in files.items():
            write_bytes(made / name, data)
        put_in_place(made, out)
    return True
