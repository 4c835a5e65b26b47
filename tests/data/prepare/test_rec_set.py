"""Which records of a training set are images, and of whom: with and without records of people; each fault refused."""

import numpy as np
import pytest
from support import labelled, training_set, write_records

from lossbench.data.prepare.rec_set import read_rec
from lossbench.errors import InputError

PEOPLE = [[b"a0", b"a1"], [b"b0"], [b"c0", b"c1", b"c2"]]


def test_images_are_between_record_0_and_those_of_people(tmp_path):
    found = read_rec(training_set(tmp_path / "set", PEOPLE, (92, 112)))
    assert found.images.keys.tolist() == [1, 2, 3, 4, 5, 6]
    assert found.labels.tolist() == [0, 0, 1, 2, 2, 2]
    assert (found.size, found.notes) == ((92, 112), ())
    assert found.per_person() == {"0": 2, "1": 1, "2": 3}


def test_without_records_of_people_every_record_is_an_image(tmp_path):
    """Labels may also stand behind the header, as those of sets with landmarks do."""
    records = [labelled([2], 0, b"a"), labelled([0, 0.25, 0.5], 1, b"b"), labelled([10], 2, b"c")]
    found = read_rec(write_records(tmp_path / "set", records, "11,112,112\n"))
    assert found.images.keys.tolist() == [0, 1, 2]
    assert found.labels.tolist() == [2, 0, 10]
    assert found.per_person() == {"00": 1, "02": 1, "10": 1}  # of one width: the order of the text is that of numbers
    assert found.notes == ("property announces 11 people and 3 have images",)


def test_verification_files_are_named_and_not_opened(tmp_path):
    root = training_set(tmp_path / "set", PEOPLE, (92, 112))
    for name in ("lfw.bin", "agedb_30.bin"):
        (root / name).write_bytes(b"cos\nsystem\n(S'touch /tmp/opened'\ntR.")
    (note,) = read_rec(root).notes
    assert note.startswith(
        "not read, since they are pickles of verification pairs: agedb_30.bin, lfw.bin; lossbench data"
    )


@pytest.mark.parametrize(
    ("property_", "says"),
    [
        ("", "holds '', not CLASSES,HEIGHT,WIDTH such as 85742,112,112"),
        ("3,112", "holds '3,112', not"),
        ("3,112,112,1", "not CLASSES"),
        ("3,-112,112", "not CLASSES"),
        ("0,112,112", "not CLASSES"),
        ("3,1e2,112", "not CLASSES"),
        ("\x00\xff" * 5_000, "not CLASSES"),
        (
            "2,112,112",
            r"property announces 2 people, labels 0 to 1, and image 4 has label 2; it belongs to another set",
        ),
    ],
)
def test_a_property_that_is_none_is_refused(tmp_path, property_, says):
    root = training_set(tmp_path / "set", PEOPLE, (92, 112))
    (root / "property").write_bytes(property_.encode("latin1"))
    with pytest.raises(InputError, match=says) as refused:
        read_rec(root)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("label", [0.5, -1, np.nan, np.inf])
def test_labels_that_are_no_numbers_of_people_are_refused(tmp_path, label):
    records = [labelled([0], 0, b"a"), labelled([label], 1, b"b")]
    with pytest.raises(InputError, match=r"train\.rec: image 1 has label .*; a label is a whole number from 0 on"):
        read_rec(write_records(tmp_path / "set", records, "2,112,112"))


def with_people(tmp_path, first, last, ranges):
    """Write two images of person 0 and one of person 1, record 0 and records of people as given."""
    records = [labelled([first, last], 0)]
    records += [labelled([label], i + 1, b"image") for i, label in enumerate([0, 0, 1])]
    records += [labelled(own, 4 + i) for i, own in enumerate(ranges)]
    return write_records(tmp_path / "set", records, "2,112,112")


@pytest.mark.parametrize(
    ("first", "last", "ranges", "says"),
    [
        (
            5,
            6,
            [(1, 3), (3, 4)],
            "6 records, keys 0 to 5, with images up to 3, and record 0 says that images end before key 5 ",
        ),
        (4, 7, [(1, 3), (3, 4)], "record 0 says that images end before key 4 and people before key 7"),
        (3, 6, [(1, 3), (3, 4)], "images end before key 3 "),
        (np.nan, 6, [(1, 3), (3, 4)], "images end before key nan"),
        (4, 6, [(1, 4), (4, 4)], "record of key 4 gives images 1 to 3 to one person, and their labels differ"),
        (4, 6, [(2, 4), (1, 2)], "record of key 4 gives images 2 to 3 to one person"),
        (4, 6, [(1, 3), (3, 5)], r"train\.rec: the record of key 5 says images 3 to 5, of images 1 to 3"),
        (4, 6, [(1, 3), (0, 1)], "the record of key 5 says images 0 to 1"),
        (4, 6, [(1, 3), (3, 1)], "the record of key 5 says images 3 to 1"),
        (4, 6, [(1, 3), (3, np.nan)], "the record of key 5 says images 3 to nan"),
        (4, 6, [(1, 3), (3, 4, 5)], "the record of key 5 says images 3 to 4"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(tmp_path, first, last, ranges, says):
    read_rec(with_people(tmp_path, 4, 6, [(1, 3), (3, 4)]))
    with pytest.raises(InputError, match=says):
        read_rec(with_people(tmp_path, first, last, ranges))


def test_an_index_with_a_gap_is_refused(tmp_path):
    root = training_set(tmp_path / "set", PEOPLE, (92, 112))
    rows = (root / "train.idx").read_text().replace("3\t", "33\t", 1)
    (root / "train.idx").write_text(rows)
    with pytest.raises(InputError, match=r"train\.idx lists 10 records, keys 0 to 33, with images up"):
        read_rec(root)


@pytest.mark.parametrize("name", ["train.rec", "train.idx", "property"])
def test_a_missing_file_is_named(tmp_path, name):
    root = training_set(tmp_path / "set", PEOPLE, (92, 112))
    (root / name).unlink()
    with pytest.raises(InputError, match=rf"{name} cannot be read \(No such file or directory\)"):
        read_rec(root)
    with pytest.raises(InputError, match=r"--root: no folder .*nowhere; give a folder that holds"):
        read_rec(tmp_path / "nowhere")
