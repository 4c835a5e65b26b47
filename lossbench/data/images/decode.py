"""Decode the bytes of a file to pixels. Damaged files and decompression bombs are refused in one line."""

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image, ImageOps, UnidentifiedImageError

from lossbench.data.images.recordio import ImagePlace, RecordImage, read_record_image
from lossbench.errors import InputError
from lossbench.utils.text import shown

MAX_PIXELS = 50_000_000  # a face crop is 0.01 megapixels: beyond 50 it is a decompression bomb
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # whatever the file's suffix


def read_bytes(file: ImagePlace | str) -> bytes:
    """Return the encoded bytes of an image: those of a file, or those in a larger one.

    Raises:
        InputError: it cannot be read.
    """
    if isinstance(file, RecordImage):
        return read_record_image(file)
    try:
        with open(file, "rb", buffering=0) as whole:  # noqa: PTH123 (a string has no open)
            return whole.readall()
    except OSError as error:
        raise InputError(f"{shown(file)} cannot be read ({error.strerror}); replace or remove it") from error


def decode(data: bytes, name: ImagePlace | str) -> Image.Image:
    """Decode an image to RGB, upright: the orientation in EXIF or XMP is applied.

    Args:
        data: the file's content.
        name: what to call it in an error.

    Raises:
        InputError: it is not in one of the `FORMATS`, is damaged, or has more than `MAX_PIXELS` pixels.
    """
    with pillow_silent():
        return decode_quietly(data, name)


@contextmanager
def pillow_silent() -> Iterator[None]:
    """Silence Pillow's warnings: about bombs, since the limit here is stricter, and about odd metadata."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def decode_quietly(data: bytes, name: ImagePlace | str) -> Image.Image:
    """Do what `decode` does inside the caller's `pillow_silent`, which many images can share."""
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise InputError(
            f"{shown(name)} is not an image in a known format ({known}; not all TIFFs); replace or remove it"
        ) from None
    except Image.DecompressionBombError:
        raise InputError(f"{shown(name)} is a decompression bomb: {_LIMIT}") from None
    except Exception as error:  # Pillow may raise anything for a damaged header
        raise _damaged(name, error) from error
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"{shown(name)} is {image.width}x{image.height} pixels: {_LIMIT}")
    try:
        image.load()  # first, since a PNG's orientation may follow its pixels
        ImageOps.exif_transpose(image, in_place=True)
        if image.mode.startswith(("I", "F")):
            image = _eight_bits(image)
        return image if image.mode == "RGB" else image.convert("RGB")
    except Exception as error:  # and for damaged pixels
        raise _damaged(name, error) from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """Scale a grey image of more than 8 bits per pixel to 8 bits; Pillow's own conversion clips at 255."""
    bits, inverted = 16, False
    if image.mode in ("I", "F") and (image.format, image.mode) != ("PPM", "I"):  # which Pillow has scaled to 16 bits
        raise ValueError("32 bits per pixel have no known range; save it with 8 bits")
    if image.format == "TIFF":
        tags = image.tag_v2  # type: ignore[attr-defined]
        bits, inverted = tags[_BITS_PER_SAMPLE][0], tags[_PHOTOMETRIC] == 0
    grey = image.convert("I").point(lambda value: value * (1 / 2 ** (bits - 8))).convert("L")
    return ImageOps.invert(grey) if inverted else grey


_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # tags of TIFF 6.0; a PhotometricInterpretation of 0 is WhiteIsZero
_LIMIT = f"images beyond {MAX_PIXELS:,} pixels are refused; shrink or remove it"


def _damaged(name: ImagePlace | str, error: Exception) -> InputError:
    return InputError(f"{shown(name)} cannot be read as an image ({shown(str(error))}); replace or remove it")
