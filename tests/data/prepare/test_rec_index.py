"""train.rec through train.idx: every record is found, and files that do not fit each other are refused."""

import struct

import numpy as np
import pytest
from support import labelled, recordio, write_records

from lossbench.data.images.recordio import MAGIC, part_end, record_data
from lossbench.data.prepare import rec_index
from lossbench.data.prepare.rec_index import read_index, read_records
from lossbench.errors import InputError

WORD = struct.pack("<I", MAGIC)
DATA = [
    labelled([4, 6], 0),
    labelled([0], 1, b"image one"),
    labelled([0.5, 7, 8], 2, b"two" + 3 * WORD + b"!"),
    labelled([2], 3, b"\0\0\0\0" + WORD + b"three"),
]


@pytest.fixture
def root(tmp_path):
    return write_records(tmp_path / "set", DATA, "3,112,112")


def read(root):
    return read_records(root / "train.rec", root / "train.idx")


@pytest.mark.parametrize("block", [1, 2, 65_536])
def test_every_record_is_found(root, block, monkeypatch):
    monkeypatch.setattr(rec_index, "_BLOCK", block)
    found, whole = read(root), (root / "train.rec").read_bytes()
    assert found.keys.tolist() == [0, 1, 2, 3]
    assert found.flags.tolist() == [2, 0, 3, 0]
    assert found.empty.tolist() == [True, False, False, False]
    np.testing.assert_array_equal(found.labels, np.float32([[4, 6], [0, np.nan], [0.5, 7], [2, np.nan]]))
    own = [record_data(whole[a:b]) for a, b in zip(found.starts, found.stops, strict=True)]
    assert own == DATA


def test_records_may_lie_in_any_order(root):
    rows = (root / "train.idx").read_text().splitlines()
    (root / "train.idx").write_text("\n".join(reversed(rows)))
    assert read(root).keys.tolist() == [0, 1, 2, 3]
    (root / "train.idx").write_text("".join(f"{30 - i} {row.split()[1]}\n" for i, row in enumerate(rows)))
    found = read(root)
    assert found.keys.tolist() == [27, 28, 29, 30]
    assert found.flags.tolist() == [0, 3, 0, 2]


def changed(root, name, change):
    data = (root / name).read_bytes()
    (root / name).write_bytes(change(data))


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("train.rec", lambda d: b"", r"train\.idx points to byte|is no RecordIO file"),
        (
            "train.rec",
            lambda d: b"\x89PNG" + d[4:],
            "is no RecordIO file: it does not begin with 0xced7230a",
        ),
        ("train.rec", lambda d: d[:-8], r"train\.rec is cut short: the record of key 3 ends at byte \d+ of \d+"),
        ("train.rec", lambda d: d[:100], r"points to byte \d+ and train\.rec has 100: train\.rec was cut short, or"),
        (
            "train.rec",
            lambda d: d + recordio(labelled([1], 9, b"x")),
            r"does not fit train\.rec: bytes \d+ to \d+ are of no record that it lists",
        ),
        ("train.rec", lambda d: d[:40] + b"????" + d[44:], r"no record begins at byte 40, where train\.idx has key 1"),
        (
            "train.idx",
            lambda d: d.replace(b"1\t40\n", b""),
            r"bytes 40 to \d+ are of no record that it lists",
        ),
        ("train.idx", lambda d: d.replace(b"1\t40\n", b"1\t44\n"), "no record begins at byte 44"),
        ("train.idx", lambda d: d.replace(b"1\t40\n", b"1\t-40\n"), "points to byte -40 and train.rec has"),
        ("train.idx", lambda d: d + b"4\t10000000\n", "points to byte 10000000 and train.rec has"),
        ("train.idx", lambda d: d.replace(b"1\t40\n", b"0\t40\n"), "key 0 occurs twice"),
        ("train.idx", lambda d: d + b"7\t0\n", "offset 0 occurs twice"),
        ("train.idx", lambda d: d.replace(b"40", b"40.5"), "is no index of KEY<tab>OFFSET rows"),
        ("train.idx", lambda d: d.replace(b"40", b"x"), "is no index of KEY<tab>OFFSET rows"),
        ("train.idx", lambda d: d.replace(b"\t", b""), r"has 1 columns, not KEY<tab>OFFSET"),
        ("train.idx", lambda d: b"", r"train\.idx is no index of KEY<tab>OFFSET rows \(.*contained no data"),
        ("train.idx", lambda d: b"\n\n", "is no index|has . columns"),
        ("train.idx", lambda d: b"9" * 30 + b"\t0\n", "is no index"),
        ("train.idx", lambda d: b"\xff\xfe\0" * 9, "is no index"),
    ],
)
def test_files_that_do_not_fit_are_refused(root, name, change, says):
    changed(root, name, change)
    with pytest.raises(InputError, match=says) as refused:
        read(root)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_named(root):
    (root / "train.idx").unlink()
    with pytest.raises(InputError, match=r"train\.idx cannot be read \(No such file"):
        read(root)


@pytest.mark.parametrize(
    "data",
    [
        b"short",
        struct.pack("<IfQQ", 5, 0, 0, 0) + bytes(16),  # five labels are announced
        struct.pack("<IfQQ", 2**32 - 1, 0, 0, 0) + b"image",
        WORD + bytes(20) + b"image",  # its flag is the magic word: parts, and far too many labels
        bytes(8) + WORD,  # parts, and too short for a header
    ],
)
def test_records_without_a_header_are_refused(tmp_path, data):
    root = write_records(tmp_path, [labelled([0], 0, b"image"), data], "1,112,112")
    with pytest.raises(InputError, match=r"holds no labelled images: the record of key 1 has \d+ bytes, its header"):
        read(root)


@pytest.mark.parametrize("cut", [4, 8, 12, 16, 20, 24])
def test_a_record_of_parts_that_is_cut_is_refused(tmp_path, cut):
    """The last record has several parts: it may end in the middle of one, or between two."""
    root = write_records(
        tmp_path, [labelled([0], 0, b"image"), labelled([0], 1, b"abcd" + WORD + WORD + b"efgh")], "1,9,9"
    )
    changed(root, "train.rec", lambda data: data[:-cut])
    with pytest.raises(InputError, match=r"is cut short|has no further part"):
        read(root)


def part(kind, length):
    return WORD + struct.pack("<I", kind << 29 | length)


def test_parts_that_many_records_claim_are_read_once(tmp_path, monkeypatch):
    """Each of 200 records claims the 5,000 parts behind them all, a million to read; the last alone may have them."""
    rows, parts = 200, 5_000
    firsts = b"".join(part(1, 8 * (rows - 1 - i)) for i in range(rows))
    (tmp_path / "train.rec").write_bytes(firsts + parts * part(2, 0) + part(3, 0))
    (tmp_path / "train.idx").write_text("".join(f"{i}\t{8 * i}\n" for i in range(rows)))
    looked = []
    monkeypatch.setattr(rec_index, "part_end", lambda at, length: looked.append(at) or part_end(at, length))
    with pytest.raises(InputError, match="the record of key 0 ends at byte 1600, and byte 8 belongs to the next"):
        read(tmp_path)
    assert len(looked) == rows + parts + 1


def test_a_record_of_parts_ends_where_the_next_begins(tmp_path):
    """The index leaves out no byte, and still the first record lacks its last part."""
    first, second = part(1, 4) + b"abcd", recordio(labelled([0], 1, b"image"))
    (tmp_path / "train.rec").write_bytes(first + second)
    (tmp_path / "train.idx").write_text(f"0\t0\n1\t{len(first)}\n")
    with pytest.raises(InputError, match="the record at byte 0 has no further part at byte 12"):
        read(tmp_path)


def test_an_index_of_rows_is_read(root):
    keys, offsets = read_index(root / "train.idx")
    assert keys.tolist() == [0, 1, 2, 3]
    assert offsets[0] == 0
