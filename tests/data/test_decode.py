import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from lossbench.data.decode import MAX_PIXELS, _any_format, _plain_jpeg, decode
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


@pytest.mark.parametrize(
    ("kind", "mode", "dtype"), [("PNG", "I;16", "<u2"), ("TIFF", "I;16", "<u2"), ("TIFF", "I;16B", ">u2")]
)
def test_16_bits_a_pixel_become_8(kind, mode, dtype):
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16)
    found = decode(encoded(Image.frombytes(mode, (16, 16), (grey * 257).astype(dtype).tobytes()), kind), "x")
    assert np.array_equal(np.asarray(found)[..., 0], grey)


@pytest.mark.parametrize("kind", [np.int32, np.float32])
def test_pixels_of_no_known_range_are_refused(kind):
    with pytest.raises(InputError, match="32 bits a pixel"):
        decode(encoded(Image.fromarray(np.ones((8, 8), kind)), "TIFF"), "x")


def test_exif_orientation_is_applied():
    image = Image.new("RGB", (20, 10), "red")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    assert decode(encoded(image, "JPEG", exif=exif), "x").size == (10, 20)


FACE = Image.merge("RGB", [Image.effect_noise((31, 45), 60) for _ in range(3)])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"subsampling": 0},
        {"subsampling": 1, "quality": 30},
        {"restart_marker_rows": 1},
        {"comment": b"a comment"},
        {"dpi": (72, 72)},
        {"optimize": True},
    ],
)
def test_a_plain_jpeg_is_decoded_without_its_header_and_to_the_same_pixels(options):
    data = encoded(FACE, "JPEG", **options)
    assert _plain_jpeg(data).tobytes() == _any_format(data, "x").tobytes()


def marked_after_the_frame(data, segment):
    """Return a JPEG with one more segment between its frame and its pixels."""
    at = data.index(b"\xff\xc4")
    return data[:at] + segment + data[at:]


@pytest.mark.parametrize("where", ["before", "after"])
def test_no_exif_is_overlooked(where):
    exif = Image.Exif()
    exif[0x0112] = 6
    body = exif.tobytes()
    if where == "before":
        data = encoded(FACE, "JPEG", exif=body)
    else:
        data = marked_after_the_frame(encoded(FACE, "JPEG"), b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body)
    assert _plain_jpeg(data) is None
    assert decode(data, "x").size == FACE.size[::-1]


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_colours_are_not_plain(mode):
    assert _plain_jpeg(encoded(FACE.convert(mode), "JPEG")) is None


def test_a_jpeg_bomb_is_refused():
    data = bytearray(encoded(FACE, "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 50_000, 50_000)
    with pytest.raises(InputError, match="pixels are refused"):
        decode(bytes(data), "bomb.jpg")


def test_damaged_jpegs_are_pixels_or_an_error_the_same_as_by_the_long_way():
    """Every third byte of a header, changed to what most likely hurts: never a crash, never other pixels."""
    whole = encoded(FACE, "JPEG")
    seen = {"same": 0, "refused": 0}
    for at in range(0, whole.index(b"\xff\xda") + 20, 3):
        for value in (0, 1, 0x7F, 0xFF, whole[at] ^ 1):
            data = whole[:at] + bytes([value]) + whole[at + 1 :]
            quick = _plain_jpeg(data)
            try:
                found = _any_format(data, "x")
            except InputError:
                found = None
            if quick is not None and found is not None:
                assert (quick.size, quick.tobytes()) == (found.size, found.tobytes()), (at, value)
            seen["same" if quick is not None and found is not None else "refused"] += 1
    assert min(seen.values()) > 50, seen


def test_names_are_shown_in_one_line():
    assert shown("a\nb\udcff\x1b[31m") == "a\\nb\\udcff\\x1b[31m"
    assert shown("Zoë/人.jpg") == "Zoë/人.jpg"
