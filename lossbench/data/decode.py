"""From the bytes of a file to pixels, refusing what is damaged or a decompression bomb, in one line."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from lossbench.data.names import shown
from lossbench.errors import InputError

MAX_PIXELS = 50_000_000  # a face crop is 0.01 megapixels: beyond 50 it is a decompression bomb


def read_bytes(file: Path | str) -> bytes:
    """Return what is in an image file.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with open(file, "rb", buffering=0) as whole:  # noqa: PTH123 (a string has no open)
            return whole.readall()
    except OSError as error:
        raise InputError(f"{shown(file)} cannot be read ({error.strerror}); replace or remove it") from error


def decode(data: bytes, name: Path | str) -> Image.Image:
    """Return an image, RGB and upright (EXIF orientation applied), from the bytes of its file.

    Args:
        data: the file's content.
        name: what to call it in an error.

    Raises:
        InputError: no image, a damaged one, or more than `MAX_PIXELS` pixels.
    """
    with bomb_warnings_off():
        return decode_quietly(data, name)


@contextmanager
def bomb_warnings_off() -> Iterator[None]:
    """Keep Pillow from warning of what is refused here anyway: the limit is stricter than Pillow's."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def decode_quietly(data: bytes, name: Path | str) -> Image.Image:
    """Do what `decode` does, within the caller's `bomb_warnings_off`: for many images that once is enough."""
    return _plain_jpeg(data) or _any_format(data, name)


_JFIF, _SCAN = b"\xff\xd8\xff\xe0", b"\xff\xda"
_FRAMES = (b"\xff\xc0", b"\xff\xc2")  # baseline, progressive
_HARMLESS = (b"\xff\xe0", b"\xff\xdb", b"\xff\xc4", b"\xff\xdd", b"\xff\xfe", *_FRAMES)  # JFIF, tables, comment


def _plain_jpeg(data: bytes) -> Image.Image | None:
    """Return a colour JPEG whose header holds nothing that turns or recolours it (EXIF, Adobe); None for all else.

    Pillow's Python reads every header field of a file; for a small face that is a fifth of the time to its pixels.
    """
    at, frame = 2, b""
    while (marker := data[at : at + 2]) in _HARMLESS:
        if marker in _FRAMES:
            frame = data[at + 4 : at + 10]  # bits, height, width, components
        at += 2 + int.from_bytes(data[at + 2 : at + 4])
    if not data.startswith(_JFIF) or marker != _SCAN or len(frame) < 6 or (frame[0], frame[5]) != (8, 3):
        return None
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    if not 0 < width * height <= MAX_PIXELS:
        return None
    try:
        return Image.frombytes("RGB", (width, height), data, "jpeg", "RGB", "")
    except (ValueError, OSError):  # cut short or damaged: the other way says how
        return None


def _any_format(data: bytes, name: Path | str) -> Image.Image:
    try:
        image: Image.Image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise InputError(f"{shown(name)} is not an image in a known format; replace or remove it") from None
    except Image.DecompressionBombError:
        raise InputError(f"{shown(name)} is a decompression bomb: {_LIMIT}") from None
    except Exception as error:  # what a damaged header makes Pillow raise is not bounded
        raise _damaged(name, error) from error
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"{shown(name)} is {image.width}x{image.height} pixels: {_LIMIT}")
    try:
        if "exif" in image.info:
            image = ImageOps.exif_transpose(image)
        image.load()
        if image.mode.startswith("I;16"):  # Pillow's own conversion cuts off all above 255
            image = image.convert("I").point(lambda value: value * (1 / 256)).convert("L")  # big-endian ones, too
        if image.mode in ("I", "F"):
            raise ValueError("32 bits a pixel, in no known range; save it with 8 bits")
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:  # the same for damaged pixels
        raise _damaged(name, error) from error


_LIMIT = f"images beyond {MAX_PIXELS:,} pixels are refused; shrink or remove it"


def _damaged(name: Path | str, error: Exception) -> InputError:
    return InputError(f"{shown(name)} cannot be read as an image ({shown(str(error))}); replace or remove it")
