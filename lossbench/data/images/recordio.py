"""Images inside a RecordIO file, MXNet's format: where one of them lies, and its encoded bytes, read in place.

A record is one or more parts. A part is the magic word; a word of 3 bits of kind and 29 bits of length; the data; zeros
up to a multiple of 4 bytes. Data that holds the magic word itself is split there, without the word: kind 0 is a whole
record, 1 its first part, 2 one in the middle, 3 its last. A record of an image holds a header (flag, label, id, id2);
`flag` labels, which replace the header's if there are any; and the encoded image.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from lossbench.errors import InputError
from lossbench.utils.text import shown

MAGIC = 0xCED7230A
LENGTH_BITS = 29
PART = struct.Struct("<II")  # magic, kind and length
HEADER = struct.Struct("<IfQQ")  # flag, label, id, id2
WHOLE, FIRST, MIDDLE, LAST = range(4)
MOST_BYTES = 1 << 26  # of an image: a face crop has 0.01 MiB, and a table could claim a file of many GiB

Integers = npt.NDArray[np.int64]


class RecordImage(NamedTuple):
    """One image: its RecordIO file, its key in the index, and the bytes from `start` to `stop` that are its record."""

    file: str
    key: int
    start: int
    stop: int

    def __str__(self) -> str:
        """What it is called in a message."""
        return f"{self.file} image {self.key}"


ImagePlace = Path | RecordImage


@dataclass(frozen=True, eq=False)
class RecordImages(Sequence[RecordImage]):
    """Images of one RecordIO file, kept as arrays [N]: millions of them need 24 bytes each."""

    file: str
    keys: Integers
    starts: Integers
    stops: Integers

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> RecordImage: ...
    @overload
    def __getitem__(self, index: slice) -> list[RecordImage]: ...
    def __getitem__(self, index: int | slice) -> RecordImage | list[RecordImage]:
        if isinstance(index, slice):
            own = self.keys[index].tolist(), self.starts[index].tolist(), self.stops[index].tolist()
            return [RecordImage(self.file, *row) for row in zip(*own, strict=True)]
        return RecordImage(self.file, int(self.keys[index]), int(self.starts[index]), int(self.stops[index]))

    def __iter__(self) -> Iterator[RecordImage]:
        for start in range(0, len(self), 10_000):
            yield from self[start : start + 10_000]


def part_end(start: int, length: int) -> int:
    """Return where a part of `length` bytes of data ends, padding included, if it begins at byte `start`."""
    return start + PART.size + (length + 3) // 4 * 4


def record_data(record: bytes) -> bytes:
    """Return what a record holds, its parts joined.

    Raises:
        ValueError: these bytes are not exactly one record.
    """
    parts: list[bytes] = []
    at = 0
    while True:
        if at + PART.size > len(record):
            raise ValueError("the record is cut short")
        magic, word = PART.unpack_from(record, at)
        kind, length = word >> LENGTH_BITS, word & (1 << LENGTH_BITS) - 1
        if magic != MAGIC or kind not in ((MIDDLE, LAST) if parts else (WHOLE, FIRST)):
            raise ValueError("no record begins there")
        begin, at = at + PART.size, part_end(at, length)
        if at > len(record):
            raise ValueError("the record is cut short")
        parts.append(record[begin : begin + length])
        if kind in (WHOLE, LAST):
            break
    if at != len(record):
        raise ValueError("the record ends elsewhere")
    return struct.pack("<I", MAGIC).join(parts)


def encoded_image(data: bytes) -> bytes:
    """Return the encoded image in the data of a record: what follows its header and labels.

    Raises:
        ValueError: too short for these.
    """
    if len(data) < HEADER.size or (begin := HEADER.size + 4 * HEADER.unpack_from(data)[0]) > len(data):
        raise ValueError("the record is too short for its header")
    return data[begin:]


def read_record_image(image: RecordImage) -> bytes:
    """Return the encoded bytes of an image.

    Raises:
        InputError: the file cannot be read, no longer holds the image there, or says that it is beyond `MOST_BYTES`.
    """
    try:
        with open(image.file, "rb", buffering=0) as file:  # noqa: PTH123 (a string has no open)
            if image.stop - image.start > MOST_BYTES:
                raise ValueError(f"its record has {image.stop - image.start:,} bytes, of at most {MOST_BYTES:,}")
            file.seek(image.start)
            return encoded_image(record_data(file.read(image.stop - image.start)))
    except OSError as error:
        raise InputError(f"{shown(image.file)} cannot be read ({error.strerror}); put it back") from error
    except ValueError as error:
        raise InputError(f"{shown(str(image))} cannot be read: {error}; prepare the data again") from error
