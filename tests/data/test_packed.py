"""A prepared set whose images stay in train.rec: as the other rooms see it, and what is refused when it has changed."""

import hashlib
import io
import json

import numpy as np
import pytest
from support import encoded_people, training_set

from lossbench.data.catalogue import open_data, open_images, open_unseen_people
from lossbench.data.images.store import open_store
from lossbench.data.inspect.check import check_tree
from lossbench.data.packed import ROW, open_packed, read_packed_unseen
from lossbench.data.prepare.options import TrainingSetOptions
from lossbench.data.prepare.rec import prepare_rec
from lossbench.data.prepare.rec_set import read_rec
from lossbench.data.set_files import is_packed
from lossbench.data.tree import read_images
from lossbench.errors import InputError


@pytest.fixture
def packed(tmp_path, orl):
    root = training_set(tmp_path / "set", encoded_people(orl.files[:300], 10), (92, 112))
    prepare_rec(read_rec(root), tmp_path / "out", TrainingSetOptions())
    return tmp_path / "out"


def test_it_is_a_data_set_like_any_other(packed):
    faces = open_data(str(packed))
    split = faces.split(0)
    assert (faces.name, len(faces.folds)) == ("out", 1)
    assert {name: (len(part), len(part.people)) for name, part in split.parts()} == {
        "train": (192, 24), "val": (24, 24), "test": (24, 24), "query": (30, 3), "distractors": (30, 3)
    }  # fmt: skip
    for name, part in split.parts():
        assert part.people == tuple(sorted(part.people))
        for row, label in zip(part.rows, part.labels, strict=True):
            assert faces.names[row].startswith(f"{name}/{part.people[label]}/")
    assert split.train.people == split.val.people == split.test.people
    assert not {*split.train.people} & {*split.query.people, *split.distractors.people}
    few = open_data(str(packed), identities=5, images_per_identity=3).split(0)
    assert (len(few.train), len(few.query)) == (15, 30)


def test_its_query_people_are_those_of_an_evaluation(packed):
    faces, unseen = open_data(str(packed)), open_unseen_people(packed)
    split = faces.split(0)
    assert unseen.names == tuple(faces.names[row] for row in [*split.query.rows, *split.distractors.rows])
    assert list(unseen.files) == [faces.files[row] for row in [*split.query.rows, *split.distractors.rows]]
    assert (unseen.query.labels, unseen.query.people) == (split.query.labels, split.query.people)
    assert unseen.distractors.rows == tuple(range(30, 60))


def test_all_of_its_images_can_be_embedded(packed, tree):
    faces, (images, names) = open_data(str(packed)), open_images(packed)
    assert (list(images), names) == (list(faces.files), faces.names)
    assert open_images(tree) == read_images(tree)


def test_without_query_people_there_is_nobody_to_evaluate(tmp_path, packed):
    prepare_rec(read_rec(tmp_path / "set"), tmp_path / "all", TrainingSetOptions(query_identities=0))
    split = open_data(str(tmp_path / "all")).split(0)
    assert [len(part.people) for _, part in split.parts()] == [30, 30, 30, 0, 0]
    with pytest.raises(InputError, match="all has no query people; prepare it with --query-identities 2 or more"):
        read_packed_unseen(tmp_path / "all")


def rewritten(packed, table):
    """Write another table, or the bytes of one, and its SHA-256 in split.json."""
    if isinstance(table, bytes):
        (packed / "images.npy").write_bytes(table)
    else:
        np.save(packed / "images.npy", table)
    content = json.loads((packed / "split.json").read_bytes())
    content["packed"]["bytes"] = (packed.parent / "set" / "train.rec").stat().st_size
    content["packed"]["table"] = hashlib.sha256((packed / "images.npy").read_bytes()).hexdigest()
    (packed / "split.json").write_text(json.dumps(content))


def replaced(packed, **changes):
    """Write the table anew with other values in its first row."""
    table = np.load(packed / "images.npy")
    for name, value in changes.items():
        table[name][0] = value
    rewritten(packed, table)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"key": 2}, "an image is listed twice"),
        ({"start": -4}, "a row lies outside the file"),
        ({"stop": 2**40}, "a row lies outside the file"),
        ({"start": 2**40, "stop": 2**41}, "a row lies outside the file"),
        ({"stop": 0}, "a row lies outside the file"),
        ({"start": 0, "stop": 2**26 + 4}, "an image is beyond 67,108,864 bytes"),
        ({"part": 5}, "a row is out of range"),
        ({"person": -1}, "a row is out of range"),
    ],
)
def test_a_table_that_points_elsewhere_is_refused(packed, changes, says):
    rec = packed.parent / "set" / "train.rec"
    with rec.open("r+b") as sparse:
        sparse.truncate(2**27)
    replaced(packed)
    open_packed(packed)
    replaced(packed, **changes)
    with pytest.raises(InputError, match=rf"out is damaged \(ValueError: {says}\); prepare the data again"):
        open_packed(packed)


TRAIN, VAL, TEST, QUERY, DISTRACTORS = range(5)


def only(table, part, person, images):
    """Return the rows without all but the first so many of a person in a part."""
    own = np.nonzero((table["part"] == part) & (table["person"] == person))[0]
    return np.delete(table, own[images:])


def moved(table, part, person, to):
    """Move the first image of a person in a part to another part."""
    (row, *_) = np.nonzero((table["part"] == part) & (table["person"] == person))[0]
    table["part"][row] = to
    return table


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t, a, q: only(t, TRAIN, a, 1), r"train/0\d holds 1 image; a person in train needs at least 2"),
        (lambda t, a, q: only(t, TRAIN, a, 0), r"val/0\d is a person who is not in train"),
        (lambda t, a, q: moved(t, QUERY, q, TEST), r"test/\d\d is a person who is not in train"),
        (lambda t, a, q: only(t, QUERY, q, 1), r"query/\d\d holds 1 image; a person in query needs at least 2"),
        (lambda t, a, q: moved(t, QUERY, q, DISTRACTORS), r"distractors/\d\d is a person who is also in query"),
        (lambda t, a, q: moved(t, VAL, a, DISTRACTORS), r"distractors/0\d is a person who is also in train"),
        (lambda t, a, q: t[t["part"] >= QUERY], "train is empty"),
        (lambda t, a, q: t[t["part"] != VAL], "val is empty"),
        (lambda t, a, q: t[t["part"] != TEST], "test is empty"),
    ],
)
def test_a_table_that_is_no_split_is_refused(packed, change, says):
    """A run refuses it, an evaluation too, and the check finds it."""
    table = np.load(packed / "images.npy")
    first, query = table["person"][0], table["person"][table["part"] == QUERY][0]
    rewritten(packed, change(table.copy(), first, query))
    for open_ in (lambda: open_data(str(packed)), lambda: open_unseen_people(packed)):
        with pytest.raises(InputError, match=rf"out is no split of people \({says}\); prepare the data again"):
            open_()
    assert {finding.verdict for finding in check_tree(packed)} & {"flaw", "leak"}


def header(rows):
    """Return an .npy header of so many rows, with no row."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": np.lib.format.dtype_to_descr(ROW), "fortran_order": False, "shape": (rows,)}
    )
    return stream.getvalue()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        (header(10**13), r"the table's header announces 10,000,000,000,000 rows, and the file has \d+ bytes"),
        (header(1), "the table's header announces 1 rows"),
        (header(-1), "the table's header announces -1 rows"),
        (header(0) + bytes(61), "the table's header announces 0 rows"),
        (header(0), "a row is out of range"),
        (header(0).replace(b"\x01\x00", b"\x03\x00", 1), r"the table is of another version of \.npy"),
        (header(0).replace(b")", b"(", 1), "the table's header is damaged|Cannot parse header"),
        (header(0)[:30], "EOF"),
    ],
)
def test_a_table_is_not_believed(packed, table, says):
    """Nothing is allocated by what its header says."""
    rewritten(packed, table)
    with pytest.raises(InputError, match=rf"out is damaged \(ValueError: .*({says}).*\); prepare the data again"):
        open_packed(packed)


def test_files_that_do_not_belong_together_are_refused(packed, tmp_path):
    table, split = (packed / "images.npy").read_bytes(), (packed / "split.json").read_text()
    assert (is_packed(packed), is_packed(tmp_path / "set")) == (True, False)
    for name, data, says in (
        ("images.npy", table[:-1], "images.npy is not the one that split.json describes"),
        ("images.npy", b"", "images.npy is not the one"),
        ("split.json", split.encode()[:-9], "JSONDecodeError"),
        ("split.json", b'{"schema": 1, "files": []}', "KeyError"),
        ("split.json", b"[]", "AttributeError"),
    ):
        before = (packed / name).read_bytes()
        (packed / name).write_bytes(data)
        with pytest.raises(InputError, match=rf"out is damaged \(.*{says}"):
            open_packed(packed)
        (packed / name).write_bytes(before)
    np.save(packed / "images.npy", np.zeros(3, np.dtype([("key", "<i8"), ("start", "<i8"), ("stop", "O")])[["key"]]))
    with pytest.raises(InputError, match="is damaged"):
        open_packed(packed)
    assert np.load(packed.parent / "out" / "images.npy").dtype != ROW


def test_a_packed_file_that_is_gone_or_changed_is_refused(packed, tmp_path):
    rec = tmp_path / "set" / "train.rec"
    data = rec.read_bytes()
    rec.write_bytes(data[:-4])
    with pytest.raises(
        InputError, match=rf"train\.rec has changed: {len(data) - 4} bytes, not the {len(data)} of when"
    ):
        open_data(str(packed))
    rec.unlink()
    with pytest.raises(InputError, match=r"train\.rec, whose images .*out lists, cannot be read \(No such file"):
        open_data(str(packed))


def test_images_that_changed_are_named(packed, tmp_path):
    """An image that cannot be read is no change; a set of a newer lossbench is not opened."""
    found = open_packed(packed)
    digests = [bytes(one).hex() for one in found.table["sha256"]]
    assert found.content_faults(digests) == []
    digests[3], digests[5], digests[6] = "", "ab" * 32, digests[7]
    names = found.names()
    assert [line.split(" is not ")[0] for line in found.content_faults(digests)] == [
        f"{packed}/{names[5]}", f"{packed}/{names[6]}"
    ]  # fmt: skip
    says = rf"{names[5]} is not the image that split\.json describes: its content changed; .*train\.rec \(2 such"
    with pytest.raises(InputError, match=says):
        found.verify_content(digests)
    content = json.loads((packed / "split.json").read_bytes())
    (packed / "split.json").write_text(json.dumps(content | {"schema": 2}))
    with pytest.raises(InputError, match=r"split\.json has schema 2, this lossbench reads 1; upgrade lossbench\Z"):
        open_packed(packed)


def test_the_store_reads_it_in_place(packed, orl):
    """The pixels of the PNGs, which lose nothing, are those of ORL."""
    faces = open_data(str(packed))
    own, whole = open_store(faces.files, 32), open_store(orl.files, 32)
    for row, name in enumerate(faces.names):
        key = int(name.split("/")[2])
        if (key - 1) % 3 == 0:
            np.testing.assert_array_equal(own.pixels[row], whole.pixels[key - 1])
