import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from lossbench.data.images.decode import MAX_PIXELS, decode
from lossbench.errors import InputError

FILES = Path(__file__).parent / "files"
FACE = Image.merge("RGB", [Image.effect_noise((31, 45), 60) for _ in range(3)])


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
    with pytest.raises(InputError, match="32 bits per pixel"):
        decode(encoded(Image.fromarray(np.ones((8, 8), kind)), "TIFF"), "x")


@pytest.mark.parametrize(("bits", "white"), [(16, 1), (16, 0), (12, 1)])
def test_tiffs_of_more_bits_have_the_same_greys(bits, white):
    """What Pillow itself cannot write: 12 bits per pixel, and 0 for white."""
    grey = np.arange(256).reshape(16, 16)
    values = (grey << (bits - 8) | grey >> (16 - bits)).ravel().tolist()
    if bits == 16:
        data = b"".join(struct.pack("<H", value) for value in values)
    else:
        pairs = zip(values[::2], values[1::2], strict=True)
        data = b"".join((one << 12 | other).to_bytes(3, "big") for one, other in pairs)
    found = decode(tiff(16, 16, bits, white, data), "x")
    assert np.array_equal(np.asarray(found)[..., 0], grey if white else 255 - grey)


def tiff(width, height, bits, photometric, data):
    """Return a grey TIFF of one uncompressed strip."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: height, 279: len(data)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    header = b"II*\0" + struct.pack("<I", 8 + len(data))
    return header + data + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)


@pytest.mark.parametrize("depth", [65535, 1023])
def test_pgms_of_more_bits_have_the_same_greys(depth):
    grey = np.arange(256).reshape(16, 16)
    values = np.rint(grey / 255 * depth).astype(">u2")
    found = decode(f"P5\n16 16\n{depth}\n".encode() + values.tobytes(), "x")
    assert np.abs(np.asarray(found)[..., 0].astype(int) - grey).max() <= 1


def test_no_decoder_is_tried_that_runs_other_programs():
    with pytest.raises(InputError, match=r"known format \(BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP; not all TIFFs\)"):
        decode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "face.jpg")


def test_odd_metadata_is_no_warning(recwarn):
    palette = Image.new("P", (8, 8))
    palette.putpalette([255, 0, 0] * 256)
    decode(encoded(palette, transparency=bytes([0, 128] * 4)), "x")
    decode(encoded(FACE, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f"), "x")
    assert not recwarn.list


def turned():
    """Return EXIF that says: turn by 90 degrees to see it upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>"""


def exif_behind_the_pixels():
    whole = encoded(FACE, "PNG", exif=turned())
    at = whole.index(b"eXIf") - 4
    length = 12 + int.from_bytes(whole[at : at + 4])
    end = len(whole) - 12  # IEND
    return whole[:at] + whole[at + length : end] + whole[at : at + length] + whole[end:]


def exif_as_imagemagick_writes_it():
    body = turned().tobytes()
    text = PngInfo()
    text.add_text("Raw profile type exif", f"\nexif\n{len(body):8}\n{body.hex()}\n")
    return encoded(FACE, "PNG", pnginfo=text)


@pytest.mark.parametrize(
    "data",
    [
        *(
            pytest.param(lambda kind=kind: encoded(FACE, kind, exif=turned()), id=kind)
            for kind in ("JPEG", "PNG", "WEBP")
        ),
        pytest.param(lambda: encoded(FACE, "TIFF", exif=turned()), id="TIFF"),
        pytest.param(lambda: encoded(FACE, "JPEG", xmp=XMP), id="XMP"),
        pytest.param(exif_behind_the_pixels, id="behind the pixels"),
        pytest.param(exif_as_imagemagick_writes_it, id="a raw profile"),
    ],
)
def test_orientation_is_applied_wherever_it_stands(data):
    assert decode(data(), "x").size == FACE.size[::-1]


@pytest.mark.parametrize("name", ["plain", "rotated", "grey", "progressive", "cmyk"])
def test_jpegs_become_the_pixels_that_another_decoder_gives(name):
    """The PNG beside each JPEG of an ORL face is what torchvision.io.decode_image made of it, upright, in RGB."""
    file = FILES / f"{name}.jpg"
    found = decode(file.read_bytes(), file)
    with Image.open(file.with_suffix(".png")) as expected:
        assert (found.mode, found.size) == ("RGB", expected.size)
        difference = np.abs(np.asarray(found).astype(int) - np.asarray(expected))
    assert difference.max() <= 3  # versions of libjpeg round differently
    assert difference.mean() < 0.2


def test_exif_behind_the_frame_is_not_overlooked():
    body = turned().tobytes()
    whole = encoded(FACE, "JPEG")
    at = whole.index(b"\xff\xc4")  # behind the frame, before the pixels
    data = whole[:at] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + whole[at:]
    assert decode(data, "x").size == FACE.size[::-1]


def test_a_jpeg_bomb_is_refused():
    data = bytearray(encoded(FACE, "JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 50_000, 50_000)
    with pytest.raises(InputError, match="pixels are refused"):
        decode(bytes(data), "bomb.jpg")


def test_damaged_jpegs_are_pixels_or_one_line():
    """Every third byte of a header, changed to what most likely hurts."""
    whole = encoded(FACE, "JPEG")
    seen = {"decoded": 0, "refused": 0}
    for at in range(0, whole.index(b"\xff\xda") + 20, 3):
        for value in (0, 1, 0x7F, 0xFF, whole[at] ^ 1):
            try:
                decode(whole[:at] + bytes([value]) + whole[at + 1 :], "x")
                seen["decoded"] += 1
            except InputError as error:
                seen["refused"] += "\n" not in str(error)
    assert sum(seen.values()) == 5 * len(range(0, whole.index(b"\xff\xda") + 20, 3))
    assert min(seen.values()) > 50, seen
