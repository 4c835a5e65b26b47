"""RecordIO: what a record holds, in parts or whole, and images read where they are; each fault is refused."""

import hashlib
import struct
from pathlib import Path

import numpy as np
import pytest
from support import labelled, recordio

from lossbench.data.images.decode import read_bytes
from lossbench.data.images.recordio import (
    MAGIC,
    RecordImage,
    RecordImages,
    encoded_image,
    read_record_image,
    record_data,
)
from lossbench.data.images.store import open_store
from lossbench.errors import InputError

WORD = struct.pack("<I", MAGIC)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a",
        b"four",
        b"seven b",
        WORD,
        WORD + WORD,
        b"abcd" + WORD,
        WORD + b"abcde",
        b"abcd" + WORD + b"efgh" + WORD + WORD + b"i",
        b"ab" + WORD + b"cd",  # not aligned: no split
    ],
)
def test_what_was_written_is_read(data):
    record = recordio(data)
    assert record_data(record) == data
    assert len(record) % 4 == 0
    assert record.count(WORD) == 1 + sum(data[i : i + 4] == WORD for i in range(0, len(data), 4)) + (data[2:6] == WORD)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        (b"", "cut short"),
        (recordio(b"abcdefgh")[:-4], "cut short"),
        (recordio(b"abcd" + WORD + b"efgh")[:-12], "cut short"),
        (b"0000" + recordio(b"abcd")[4:], "no record begins"),
        (recordio(b"abcd") + recordio(b"efgh"), "ends elsewhere"),
        (recordio(b"abcd" + WORD + b"efgh")[12:], "no record begins"),  # begins with the last part
        (WORD + struct.pack("<I", 2**29 + 4) + b"abcd" + recordio(b"efgh"), "no record begins"),  # first, then whole
        (WORD + struct.pack("<I", 4 * 2**29 + 4) + b"abcd", "no record begins"),  # kind 4
        (WORD + struct.pack("<I", 2**29 - 1) + b"abcd", "cut short"),  # half a gigabyte is announced
    ],
)
def test_what_is_no_record_is_refused(record, says):
    with pytest.raises(ValueError, match=says):
        record_data(record)


def test_an_image_follows_header_and_labels():
    assert encoded_image(labelled([7], 1, b"image")) == b"image"
    assert encoded_image(labelled([7, 8, 9], 1, b"image")) == b"image"
    for data in (b"", labelled([7], 1)[:-1], labelled([7, 8], 1)[:-1], b"\xff\xff\xff\xff" + bytes(20) + b"image"):
        with pytest.raises(ValueError, match="too short for its header"):
            encoded_image(data)


def test_images_are_read_in_place(tmp_path):
    records = [recordio(labelled([0], key, b"image %d" % key)) for key in range(3)]
    ends = np.cumsum([len(record) for record in records])
    (tmp_path / "x.rec").write_bytes(b"".join(records))
    images = RecordImages(str(tmp_path / "x.rec"), np.arange(3), np.append(0, ends[:-1]), ends)
    assert [read_bytes(image) for image in images] == [b"image 0", b"image 1", b"image 2"]
    assert images[1:] == [images[1], images[2]] == list(images)[1:]
    assert str(images[2]) == f"{tmp_path}/x.rec image 2"


def test_files_that_have_changed_are_refused(tmp_path):
    file = tmp_path / "x.rec"
    file.write_bytes(recordio(labelled([0], 1, b"image")))
    image = RecordImage(str(file), 1, 0, file.stat().st_size)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"x\.rec image 1 cannot be read: the record is cut short; prepare the data"):
        read_record_image(image)
    file.unlink()
    with pytest.raises(InputError, match=r"x\.rec cannot be read \(No such file"):
        read_record_image(image)


def test_a_record_beyond_any_image_is_not_read(tmp_path):
    """A sparse file: reading what the table says would take all of its bytes."""
    file = tmp_path / "x.rec"
    with file.open("wb") as sparse:
        sparse.truncate(1 << 40)
    says = r"x\.rec image 1 cannot be read: its record has 1,099,511,627,776 bytes, of at most 67,108,864"
    with pytest.raises(InputError, match=says):
        read_record_image(RecordImage(str(file), 1, 0, 1 << 40))


def test_a_store_of_packed_images_is_that_of_their_files(tmp_path, orl):
    """The same images as files and inside one file give the same store; a changed file gives another."""
    data = [Path(file).read_bytes() for file in orl.files[:5]]
    records = [recordio(labelled([0], key, image)) for key, image in enumerate(data)]
    ends = np.cumsum([len(record) for record in records])
    (tmp_path / "x.rec").write_bytes(b"".join(records))
    images = RecordImages(str(tmp_path / "x.rec"), np.arange(5), np.append(0, ends[:-1]), ends)
    packed, files = (open_store(what, 32, cache=tmp_path / "cache") for what in (images, orl.files[:5]))
    assert packed.fingerprint == files.fingerprint
    assert list(packed.digests) == [hashlib.sha256(image).hexdigest() for image in data]
    np.testing.assert_array_equal(packed.pixels, files.pixels)
    turned = RecordImages(images.file, images.keys, images.starts[::-1], images.stops[::-1])
    assert open_store(turned, 32, cache=tmp_path / "cache").digests == packed.digests[::-1]
    (tmp_path / "x.rec").write_bytes(b"".join(records[:4]) + recordio(labelled([0], 4, data[4][:-1] + b"\0")))
    assert open_store(images, 32, cache=tmp_path / "cache").digests[:4] == packed.digests[:4]
    assert open_store(images, 32, cache=tmp_path / "cache").fingerprint != packed.fingerprint
