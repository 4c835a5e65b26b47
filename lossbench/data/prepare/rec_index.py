"""train.rec by its index: every record of the file is found, checked against train.idx, and its header read.

The file is untrusted: each offset and length is checked against its size, and nothing is allocated by what it says.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lossbench.data.images.recordio import (
    FIRST,
    HEADER,
    LAST,
    LENGTH_BITS,
    MAGIC,
    MIDDLE,
    PART,
    Integers,
    part_end,
    record_data,
)
from lossbench.errors import InputError
from lossbench.utils.text import clipped, shown

_BLOCK = 65_536  # records looked at in one go
_WORDS = 10  # of 4 bytes: magic, kind and length, header (6), and two labels
_LABELS = PART.size + HEADER.size


@dataclass(frozen=True, eq=False)
class Records:
    """The N records of a file, by key: where each lies, and its header.

    `labels` [N, 2] are the first two of a record's labels, NaN where it has fewer. `empty` says that no image follows.
    """

    keys: Integers
    starts: Integers
    stops: Integers
    flags: Integers
    labels: npt.NDArray[np.float32]
    empty: npt.NDArray[np.bool_]


def read_index(path: Path) -> tuple[Integers, Integers]:
    """Return the keys and the offsets of train.idx, whose rows are ``KEY<tab>OFFSET``.

    Raises:
        InputError: it cannot be read, a row is not two whole numbers, or a key or offset occurs twice.
    """
    try:
        path.stat()  # whose error says what is wrong
        with warnings.catch_warnings(action="error"):  # of offsets with a decimal point, and of blank files
            rows = np.loadtxt(path, dtype=np.int64, comments=None, ndmin=2, encoding="ascii")
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be read ({error.strerror}); give --root the folder of a set") from error
    except (ValueError, Warning) as error:
        what = clipped(str(error).splitlines()[0].replace(str(path), path.name))
        raise InputError(f"{shown(path)} is no index of KEY<tab>OFFSET rows ({what}); download it again") from error
    if rows.shape[1:] != (2,):
        raise InputError(f"{shown(path)} has {rows.shape[1]} columns, not KEY<tab>OFFSET; download it again")
    for name, column in (("key", rows[:, 0]), ("offset", rows[:, 1])):
        values, counts = np.unique(column, return_counts=True)
        if len(values) < len(column):
            raise InputError(f"{shown(path)}: {name} {values[counts > 1][0]} occurs twice; download it again")
    return rows[:, 0], rows[:, 1]


def read_records(rec: Path, idx: Path) -> Records:
    """Find every record of a file through its index.

    Raises:
        InputError: a file cannot be read, the file is no RecordIO or cut short, or the index does not list exactly its
            records.
    """
    keys, offsets = read_index(idx)
    try:
        size = rec.stat().st_size
        data = np.memmap(rec, dtype=np.uint8, mode="r") if size else np.zeros(0, np.uint8)
    except OSError as error:
        raise InputError(f"{shown(rec)} cannot be read ({error.strerror}); give --root the folder of a set") from error
    if size < PART.size or PART.unpack(data[: PART.size].tobytes())[0] != MAGIC:
        raise InputError(f"{shown(rec)} is no RecordIO file: it does not begin with {MAGIC:#x}; download it again")
    order = np.argsort(offsets)
    keys, starts = keys[order], offsets[order]
    if starts[0] < 0 or starts[-1] >= size:
        wrong = starts[0] if starts[0] < 0 else starts[-1]
        raise InputError(
            f"{shown(idx)} points to byte {wrong} and {shown(rec.name)} has {size}: {rec.name} was cut short, or the "
            "index belongs to another file; download both again"
        )
    finder, follows = _Finder(rec, idx, data), np.append(starts[1:], size)
    blocks = [
        finder.look(keys[i : i + _BLOCK], starts[i : i + _BLOCK], follows[i : i + _BLOCK])
        for i in range(0, len(starts), _BLOCK)
    ]
    stops, flags, labels, empty = (np.concatenate(column) for column in zip(*blocks, strict=True))
    order = np.argsort(keys)
    return Records(keys[order], starts[order], stops[order], flags[order], labels[order], empty[order])


_Looked = tuple[Integers, Integers, npt.NDArray[np.float32], npt.NDArray[np.bool_]]


class _Finder:
    """Reads records from a mapped file and refuses what is none."""

    def __init__(self, rec: Path, idx: Path, data: npt.NDArray[np.uint8]):
        self.rec, self.idx, self.data = rec, idx, data

    def look(self, keys: Integers, starts: Integers, follows: Integers) -> _Looked:
        """Return the ends, flags, labels and emptiness of records, given in the order of the file.

        Args:
            keys: [n].
            starts: [n] bytes inside the file.
            follows: [n] where the next record begins, or the file ends.
        """
        words = self._words(starts)
        kind, length = words[:, 1] >> LENGTH_BITS, (words[:, 1] & (1 << LENGTH_BITS) - 1).astype(np.int64)
        for i in np.nonzero((words[:, 0] != MAGIC) | (kind > FIRST))[0][:1]:
            raise self._misfit(f"no record begins at byte {starts[i]}, where {self.idx.name} has key {keys[i]}")
        stops = starts + PART.size + (length + 3) // 4 * 4
        labels = words[:, 3].copy().view(np.float32)
        pair = np.stack([labels, np.full_like(labels, np.nan)], axis=1)
        flags = words[:, 2].astype(np.int64)
        further = words[:, 8:10].copy().view(np.float32)
        pair[flags > 0] = further[flags > 0]
        pair[flags == 1, 1] = np.nan
        for i in np.nonzero(kind == FIRST)[0]:  # rare: the image holds the magic word
            stops[i] = self._end_of_parts(int(starts[i]), int(follows[i]))
            if stops[i] == follows[i]:
                flags[i], pair[i], length[i] = self._header_of_parts(int(starts[i]), int(stops[i]))
        for i in np.nonzero(stops != follows)[0][:1]:
            if stops[i] > len(self.data):
                what = f"the record of key {keys[i]} ends at byte {stops[i]} of {len(self.data)}"
                raise InputError(f"{shown(self.rec)} is cut short: {what}; download it again")
            if stops[i] > follows[i]:
                raise self._misfit(
                    f"the record of key {keys[i]} ends at byte {stops[i]}, and byte {follows[i]} belongs to the next"
                )
            raise self._misfit(f"bytes {stops[i]} to {follows[i]} are of no record that it lists")
        header = HEADER.size + 4 * flags
        for i in np.nonzero(length < header)[0][:1]:
            what = f"the record of key {keys[i]} has {length[i]} bytes, its header of {flags[i]} labels {header[i]}"
            raise InputError(f"{shown(self.rec)} holds no labelled images: {what}; download it again")
        return stops, flags, pair, length == header

    def _words(self, starts: Integers) -> npt.NDArray[np.uint32]:
        """Return the first words of records [n, _WORDS]; zeros beyond the end of the file."""
        at = starts[:, None] + np.arange(4 * _WORDS)
        inside = at < len(self.data)
        found = self.data[np.where(inside, at, 0)]
        found[~inside] = 0
        return found.view("<u4")

    def _end_of_parts(self, start: int, follows: int) -> int:
        """Return where a record of several parts ends, no further than the part that reaches `follows`.

        Beyond the file if it is cut. Without that limit, parts that many records claim would be read for each of them.
        """
        at = start
        while at < follows and at + PART.size <= len(self.data):
            magic, word = PART.unpack(self.data[at : at + PART.size].tobytes())
            kind = word >> LENGTH_BITS
            if magic != MAGIC or kind not in ((FIRST,) if at == start else (MIDDLE, LAST)):
                raise self._misfit(f"the record at byte {start} has no further part at byte {at}")
            at = part_end(at, word & (1 << LENGTH_BITS) - 1)
            if kind == LAST or follows < at <= len(self.data):
                return at
        if at == follows < len(self.data):
            raise self._misfit(f"the record at byte {start} has no further part at byte {at}")
        return len(self.data) + 4

    def _header_of_parts(self, start: int, stop: int) -> tuple[int, tuple[float, float], int]:
        data = record_data(self.data[start:stop].tobytes())
        if len(data) < HEADER.size:
            return 0, (np.nan, np.nan), len(data)
        flag, label, _, _ = HEADER.unpack_from(data)
        count = min(flag, 2, (len(data) - HEADER.size) // 4)
        further = np.frombuffer(data, "<f4", count, offset=HEADER.size).tolist()
        labels = [*further, np.nan, np.nan] if flag else [label, np.nan]
        return flag, (labels[0], labels[1]), len(data)

    def _misfit(self, what: str) -> InputError:
        return InputError(f"{shown(self.idx)} does not fit {self.rec.name}: {what}; download both again")
