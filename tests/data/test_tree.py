"""A tree of folders as data, and everything that can be wrong with one."""

import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from lossbench.data.catalogue import open_data
from lossbench.data.inspect.check import check_tree
from lossbench.data.inspect.contact_sheet import contact_sheet
from lossbench.data.left_out import left_out
from lossbench.data.tree import read_images, read_tree, read_unseen_people
from lossbench.errors import InputError


def test_the_folders_are_the_split(tree):
    faces = open_data(str(tree))
    split = faces.split(3)
    assert {name: len(part) for name, part in split.parts()} == {
        "train": 24, "val": 8, "test": 8, "query": 8, "distractors": 8,
    }  # fmt: skip
    assert split.train.people == split.test.people == ("p0", "p1", "p2", "p3")
    for name, part in split.parts():
        for row, label in zip(part.rows, part.labels, strict=True):
            assert faces.files[row].parent == tree / name / part.people[label]


def test_identities_keeps_the_people_with_most_images(tree):
    for image in ("0", "1"):
        (tree / "train" / "p0" / f"{image}.jpg").unlink()
    split = open_data(str(tree), identities=3).split(0)
    assert split.train.people == split.val.people == ("p1", "p2", "p3")
    assert (len(split.train), len(split.val), len(split.query)) == (18, 6, 8)
    assert set(split.train.labels) == {0, 1, 2}


def test_moving_a_file_changes_the_fingerprint(tree):
    before = open_data(str(tree)).fingerprint(0)
    (tree / "test" / "p0" / "8.jpg").rename(tree / "train" / "p0" / "8.jpg")
    assert open_data(str(tree)).fingerprint(0) != before


def breakage(tree, what):
    if what == "nowhere":
        shutil.rmtree(tree)
    if what == "empty":
        shutil.rmtree(tree)
        tree.mkdir()
    if what == "no val":
        shutil.rmtree(tree / "val")
    if what == "closed":
        shutil.rmtree(tree / "query")
        shutil.rmtree(tree / "distractors")
    if what == "one image":
        for image in range(1, 6):
            (tree / "train" / "p2" / f"{image}.jpg").unlink()
    if what == "no person":
        shutil.rmtree(tree / "distractors")
        (tree / "distractors").mkdir()
    if what == "stranger":
        shutil.copytree(tree / "query" / "p4", tree / "test" / "p4")
    if what == "leak":
        shutil.copytree(tree / "train" / "p0", tree / "query" / "p0")


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("nowhere", "no data called"),
        ("empty", "has no folder train/ and no val/ and no test/ and no query/ and no distractors/; a data tree holds"),
        ("no val", "has no folder val/; a data tree holds train/, val/, test/, query/, distractors/, each with one"),
        ("closed", "has no folder query/ and no distractors/; a data tree holds"),
        ("one image", "p2 holds 1 image; a person in train needs at least 2: add images or remove"),
        ("no person", "distractors is empty"),
        ("stranger", "test/p4 is a person who is not in train: move the folder to query"),
        ("leak", "query/p0 is a person who is also in train: remove one"),
    ],
)
def test_a_broken_tree_says_what_is_wrong_in_one_line(tree, what, says):
    breakage(tree, what)
    with pytest.raises(InputError, match=rf"\A[^\n]*{says}[^\n]*\Z"):
        open_data(str(tree))


def test_identities_out_of_range(tree):
    with pytest.raises(InputError, match="--identities 9 is out of range; this data has 2 to 4"):
        open_data(str(tree), identities=9)


def images_of_unseen_people(root):
    return read_unseen_people(root).files


def check(root):
    """Check a tree; what it says of the first image that cannot be read becomes an error."""
    for finding in check_tree(root):
        if finding.check == "unreadable images" and finding.details:
            raise InputError(finding.details[0])


READERS = (read_tree, images_of_unseen_people, read_images, check, contact_sheet)


@contextmanager
def as_a_user():
    """Give up root's right to read everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def open_tree(tree):
    """A tree that every user may read: pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(tree, Path(folder, "tree"))
        Path(folder).chmod(0o755)
        yield Path(folder, "tree")
        for closed in (Path(folder, "tree"), Path(folder, "tree", "query"), Path(folder, "tree", "query", "p4")):
            closed.chmod(0o755)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("place", [".", "query", "query/p4"])
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_folder_without_permission_is_one_line(open_tree, read, place, mode):
    """Mode 444 lets a folder be listed, and nothing in it be looked at."""
    read(open_tree)
    (open_tree / place).chmod(mode)
    said = rf"\A[^\n]*{(open_tree / place).resolve()}[^\n]* cannot be read \(Permission denied\); [^\n]*\Z"
    with as_a_user(), pytest.raises(InputError, match=said):
        read(open_tree)


def test_nobody_is_query_and_distractor(tree):
    (tree / "distractors" / "p4").symlink_to(tree / "query" / "p4")
    with pytest.raises(InputError, match="is in both"):
        read_unseen_people(tree)


def test_what_stands_beside_the_folders_of_a_prepared_set_is_no_face(tree):
    faces, _ = read_images(tree)
    sheet = shutil.copy(faces[0], tree / "doubtful.jpg")
    assert sheet in read_images(tree)[0]
    (tree / "split.json").write_text("{}")
    assert read_images(tree)[0] == faces
    assert left_out(tree, faces, people=False) == ""
