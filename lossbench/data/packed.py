"""A prepared set whose images stay packed in another file: split.json, and a table with a row for every image.

The table, images.npy, takes 61 bytes an image, and millions of images are opened at once.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
import numpy.typing as npt

from lossbench.data.faces import FaceSet, Part, Split
from lossbench.data.images.recordio import MOST_BYTES, RecordImages
from lossbench.data.set_files import SCHEMA, SPLIT, TABLE, refuse_other_schema
from lossbench.data.split_file import refuse
from lossbench.data.tree import CLOSED, PARTS, UnseenPeople, misfit
from lossbench.errors import InputError
from lossbench.utils.text import shown

#: A row: the image's record and its place, the number of its person, its part, and the SHA-256 of its encoded bytes.
ROW = np.dtype(
    [("key", "<i8"), ("start", "<i8"), ("stop", "<i8"), ("person", "<i4"), ("part", "u1"), ("sha256", "u1", (32,))]
)


@dataclass(frozen=True, eq=False)
class PackedSet:
    """A prepared set: its folder, and `table` [N] of `ROW`, by part, person and key; `images` [N] are the same rows."""

    root: Path
    table: npt.NDArray[Any]
    images: RecordImages

    def names(self) -> tuple[str, ...]:
        """Return the name of every image: ``PART/PERSON/KEY``, of the same width throughout."""
        people, keys = self._texts("person"), self._texts("key")
        return tuple(
            f"{PARTS[part]}/{person}/{key}"
            for part, person, key in zip(self.table["part"].tolist(), people, keys, strict=True)
        )

    def content_faults(self, digests: Sequence[str]) -> list[str]:
        """Return a line per image that is not the one that was prepared.

        Args:
            digests: [N] the SHA-256 of the images as they are now; empty where one cannot be read, which is no fault.
        """
        whole = bytes.fromhex("".join(digest or "00" * 32 for digest in digests))
        now = np.frombuffer(whole, np.uint8).reshape(-1, 32)
        changed = [i for i in np.nonzero((now != self.table["sha256"]).any(axis=1))[0].tolist() if digests[i]]
        names = self.names() if changed else ()
        what = f"is not the image that {SPLIT} describes: its content changed; restore {shown(self.images.file)}"
        return [f"{shown(self.root / names[i])} {what}" for i in changed]

    def verify_content(self, digests: Sequence[str]) -> None:
        """Refuse a set with images that changed.

        Raises:
            InputError: `content_faults` found one.
        """
        refuse(self.content_faults(digests))

    def split(self) -> Split:
        """Return who is in which part; query and distractors may be empty.

        Raises:
            InputError: the people break a rule of a split, as `misfit` says; or train, val or test is empty.
        """
        self._refuse_misfit()
        names, parts = dict(zip(self.table["person"].tolist(), self._texts("person"), strict=True)), {}
        closed = np.unique(self.table["person"][self.table["part"] == PARTS.index("train")])
        for number, part in enumerate(PARTS):
            rows = np.nonzero(self.table["part"] == number)[0]
            own = self.table["person"][rows]
            people = np.unique(own) if part in ("query", "distractors") else closed
            labels = np.searchsorted(people, own)
            parts[part] = Part(
                tuple(rows.tolist()), tuple(labels.tolist()), tuple(names[person] for person in people.tolist())
            )
        return Split(**parts)

    def _texts(self, column: str) -> list[str]:
        return texts(self.table[column])

    def _refuse_misfit(self) -> None:
        counts: dict[str, dict[str, int]] = {}
        width = len(str(self.table["person"].max()))  # as in their names
        for number, part in enumerate(PARTS):
            people, images = np.unique(self.table["person"][self.table["part"] == number], return_counts=True)
            counts[part] = dict(zip((f"{who:0{width}d}" for who in people.tolist()), images.tolist(), strict=True))
        empty = [f"{part} is empty" for part in CLOSED if not counts[part]]
        wrong = misfit(counts)
        if what := [*empty, *([f"{wrong.place} {wrong.rule}"] if wrong else [])]:
            raise InputError(f"{shown(self.root)} is no split of people ({what[0]}); prepare the data again")


def texts(numbers: npt.NDArray[Any]) -> list[str]:
    """Return whole numbers as text, padded with zeros to the same width, so that their order is that of the text."""
    width = len(str(int(numbers.max(initial=0))))
    return [f"{number:0{width}d}" for number in numbers.tolist()]


def open_packed(root: Path) -> PackedSet:
    """Open a set and check that its files are the ones that were prepared, by their size; the table by its content.

    Raises:
        InputError: a file is missing, damaged or of another lossbench, or the packed file has changed.
    """
    try:
        content = json.loads((root / SPLIT).read_bytes())
        refuse_other_schema(root / SPLIT, content)
        file, size, sha256 = Path(content["packed"]["file"]), content["packed"]["bytes"], content["packed"]["table"]
        data = (root / TABLE).read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ValueError(f"{TABLE} is not the one that {SPLIT} describes")
        table = _read_table(data)
        _check(table, size)
    except InputError:  # of another schema
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"is damaged ({type(error).__name__}: {shown(str(error))})"
        raise InputError(f"{shown(root)} {what}; prepare the data again") from error
    try:
        now = file.stat().st_size
    except OSError as error:
        raise InputError(
            f"{shown(file)}, whose images {shown(root)} lists, cannot be read ({error.strerror}); put it back, or "
            "prepare the data again"
        ) from error
    if now != size:
        raise InputError(f"{shown(file)} has changed: {now} bytes, not the {size} of when {shown(root)} was prepared")
    columns = (table[name].astype(np.int64) for name in ("key", "start", "stop"))
    return PackedSet(root, table, RecordImages(str(file), *columns))


def _read_table(data: bytes) -> npt.NDArray[Any]:
    """Return the rows of an .npy file without a copy; nothing is allocated by what its header says."""
    stream = io.BytesIO(data)
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("the table is of another version of .npy")
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
    except (TokenError, MemoryError) as error:  # Python's parser on a damaged header
        raise ValueError("the table's header is damaged") from error
    if dtype != ROW or len(shape) != 1:
        raise ValueError("the table has other columns")
    if stream.tell() + shape[0] * ROW.itemsize != len(data):
        raise ValueError(f"the table's header announces {shape[0]:,} rows, and the file has {len(data):,} bytes")
    return np.frombuffer(data, ROW, offset=stream.tell())


def _check(table: npt.NDArray[Any], size: int) -> None:
    if not len(table) or int(table["part"].max()) >= len(PARTS) or int(table["person"].min()) < 0:
        raise ValueError("a row is out of range")
    if not (table["start"].min() >= 0 and (table["start"] < table["stop"]).all() and table["stop"].max() <= size):
        raise ValueError("a row lies outside the file")
    if (table["stop"] - table["start"]).max() > MOST_BYTES:
        raise ValueError(f"an image is beyond {MOST_BYTES:,} bytes")
    if len(np.unique(table["key"])) < len(table):
        raise ValueError("an image is listed twice")


def packed_files(table: npt.NDArray[Any], file: Path, header: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the content of a set's files: of split.json, which begins with `header`, and of the table.

    Raises:
        OSError: the packed file is gone.
    """
    whole = io.BytesIO()
    np.save(whole, table, allow_pickle=False)
    packed = {
        "file": file.as_posix(),
        "bytes": file.stat().st_size,
        "table": hashlib.sha256(whole.getvalue()).hexdigest(),
    }
    content = {"schema": SCHEMA, **header, "packed": packed, "files": []}
    return {SPLIT: (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode(), TABLE: whole.getvalue()}


def read_packed(root: Path) -> FaceSet:
    """Return a set as the other rooms see it; `open_packed` says what is refused."""
    packed = open_packed(root)
    return FaceSet(root.resolve().name, packed.images, packed.names(), (packed.split(),))


def read_packed_unseen(root: Path) -> UnseenPeople:
    """Return the query people and distractors of a set.

    Raises:
        InputError: as `open_packed`, or nobody is query.
    """
    packed = open_packed(root)
    split = packed.split()
    if not split.query.people:
        raise InputError(f"{shown(root)} has no query people; prepare it with --query-identities 2 or more")
    rows = [*split.query.rows, *split.distractors.rows]
    names = packed.names()
    first = len(split.query)
    query = Part(tuple(range(first)), split.query.labels, split.query.people)
    others = Part(tuple(range(first, len(rows))), split.distractors.labels, split.distractors.people)
    images = tuple(packed.images[row] for row in rows)
    return UnseenPeople(root.resolve().name, images, tuple(names[row] for row in rows), query, others)
