"""From files to their places in a packed store. Imports no numpy: the processes that do this start the faster."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from lossbench.data.decode import bomb_warnings_off, decode_quietly, read_bytes

RECIPE = "upright rgb of 8 bits, centre square, PIL bilinear"  # in a store's fingerprint


def decode_into(store: Path, offset: int, side: int, job: tuple[int, Sequence[str]]) -> list[str]:
    """Decode some files, write them into their places, and return their SHA-256.

    Args:
        store: the file to write into; long enough already.
        offset: where the first image of all begins.
        side: pixels per side.
        job: the first file's number among all, and the files (strings: a Path is slow to hand over).

    Raises:
        InputError: an image that cannot be read or is a decompression bomb.
        OSError: the store cannot be written.
    """
    start, files = job
    digests, pixels = [], []
    with bomb_warnings_off():
        for file in files:
            data = read_bytes(file)
            pixels.append(square(decode_quietly(data, file), side).tobytes())
            digests.append(hashlib.sha256(data).hexdigest())
    with store.open("r+b") as target:
        target.seek(offset + start * side * side * 3)
        target.write(b"".join(pixels))
    return digests


def square(image: Image.Image, side: int) -> Image.Image:
    """Return the centre square of an image at `side` x `side` pixels."""
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    return image.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + edge, top + edge))
