"""Decode files into their places in a packed store; runs in worker processes."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from lossbench.data.images.decode import decode_quietly, pillow_silent, read_bytes
from lossbench.data.images.recordio import RecordImage
from lossbench.errors import InputError

RECIPE = "upright by exif or xmp, rgb of 8 bits from up to 16, centre square, PIL bilinear"  # in a store's fingerprint


class Packed(NamedTuple):
    """The SHA-256 of each file that is now in the store, and a reason for each file that cannot be used."""

    digests: list[str]
    faults: list[str]


def decode_into(store: Path, offset: int, side: int, job: tuple[int, Sequence[str | RecordImage]]) -> Packed:
    """Decode some files and write them into their places.

    An unusable file does not stop the others: all are reported at once.

    Args:
        store: the file to write into, of its final size.
        offset: the byte at which the first image begins.
        side: pixels per side.
        job: the index of the first file among all files, and the files (no Path, which is slow to pickle).

    Raises:
        OSError: the store cannot be written.
    """
    start, files = job
    packed, pixels = Packed([], []), []
    with pillow_silent():
        for file in files:
            try:
                data = read_bytes(file)
                pixels.append(square(decode_quietly(data, file), side).tobytes())
                packed.digests.append(hashlib.sha256(data).hexdigest())
            except InputError as error:
                packed.faults.append(str(error))
    if packed.faults:
        return packed  # there will be no store
    with store.open("r+b") as target:
        target.seek(offset + start * side * side * 3)
        target.write(b"".join(pixels))
    return packed


def square(image: Image.Image, side: int) -> Image.Image:
    """Return the centre square of an image at `side` x `side` pixels."""
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    return image.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + edge, top + edge))
