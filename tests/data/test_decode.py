import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lossbench.data.decode import MAX_PIXELS, decode
from lossbench.data.names import shown
from lossbench.errors import InputError


def png(width, height):
    """Return a PNG that claims to be of this size, without any pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(("width", "height"), [(50_000, 50_000), (12_000, 12_000), (MAX_PIXELS // 100 + 1, 100)])
def test_bombs_are_refused_by_their_header(width, height, recwarn):
    with pytest.raises(InputError, match="50,000,000 pixels are refused"):
        decode(png(width, height), "bomb.png")
    assert not recwarn.list


@pytest.mark.parametrize("cut", [0, 20, 60, 300])
def test_cut_files_are_one_line(cut):
    whole = encoded(Image.effect_noise((64, 64), 50), "JPEG")
    with pytest.raises(InputError, match=r"face\.jpg (is not an image|cannot be read)") as raised:
        decode(whole[:cut], "face.jpg")
    assert "0x" not in str(raised.value)  # no address of an object: the same file gives the same line


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(mode):
    image = Image.effect_noise((20, 10), 50).convert("L")
    made = image.convert(mode) if mode != "I;16" else Image.fromarray(np.asarray(image).astype(np.uint16))
    found = decode(encoded(made, "TIFF"), "x")
    assert (found.mode, found.size) == ("RGB", (20, 10))


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (20, 10), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    assert decode(encoded(image, "JPEG", exif=exif), "x").size == (10, 20)


def test_names_are_shown_in_one_line():
    assert shown("a\nb\udcff\x1b[31m") == "a\\nb\\udcff\\x1b[31m"
    assert shown("Zoë/人.jpg") == "Zoë/人.jpg"
