import hashlib
import json

import pytest

from lossbench.data.split_file import Entry, SplitFile, write_manifest
from lossbench.errors import InputError

NAMES = ["train/a/1.jpg", "train/a/2.jpg", "test/a/3.jpg"]


@pytest.fixture
def tree(tmp_path):
    entries = []
    for name in NAMES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
        sha = hashlib.sha256(name.encode()).hexdigest()
        entries.append(Entry(name, sha, "a", name.split("/")[0], name, (1.0,) * 10, {"partition": "0"}))
    write_manifest(tmp_path, {"seed": 3}, entries)
    return tmp_path


def names_of(tree):
    return [f.relative_to(tree).as_posix() for f in sorted(tree.rglob("*.jpg"))]


def verify(tree):
    found = SplitFile.of(tree)
    found.verify_layout(names_of(tree))
    digests = [hashlib.sha256((tree / n).read_bytes()).hexdigest() for n in names_of(tree)]
    found.verify_content(names_of(tree), digests)


def test_what_is_written_is_json_and_verifies(tree):
    found = json.loads((tree / "split.json").read_text())
    assert (found["schema"], found["seed"], len(found["files"])) == (1, 3, 3)
    assert found["files"][0]["landmarks"] == [1.0] * 10
    assert SplitFile.of(tree).sha256 == hashlib.sha256((tree / "split.json").read_bytes()).hexdigest()
    verify(tree)


def test_none_where_there_is_none(tmp_path):
    assert SplitFile.of(tmp_path) is None


def test_a_file_moved_between_splits_is_refused(tree):
    (tree / "train/a/1.jpg").rename(tree / "test/a/1.jpg")
    with pytest.raises(InputError, match=r"test/a/1\.jpg was made as train/a/1\.jpg; its split was.*--no-verify"):
        verify(tree)


def test_two_files_that_changed_places_are_refused(tree):
    (tree / "train/a/1.jpg").write_bytes(b"test/a/3.jpg")
    (tree / "test/a/3.jpg").write_bytes(b"train/a/1.jpg")
    with pytest.raises(InputError, match=r"it now holds what was train/a/1\.jpg|it now holds what was test/a/3\.jpg"):
        verify(tree)


def test_added_gone_and_changed_files_are_refused(tree):
    (tree / "train/a/9.jpg").write_bytes(b"9")
    with pytest.raises(InputError, match=r"9\.jpg is not in split\.json"):
        verify(tree)
    (tree / "train/a/9.jpg").unlink()
    (tree / "test/a/3.jpg").write_bytes(b"other")
    with pytest.raises(InputError, match=r"3\.jpg is not the file.*its content changed"):
        verify(tree)
    (tree / "test/a/3.jpg").unlink()
    with pytest.raises(InputError, match=r"3\.jpg is in split\.json but missing; put it back, prepare the data"):
        verify(tree)


def test_all_faults_are_counted(tree):
    for name in NAMES:
        (tree / name).write_bytes(b"other")
    with pytest.raises(InputError, match=r"3\.jpg is not the file.*\(3 such files\)"):
        verify(tree)
    (tree / "train/a/1.jpg").rename(tree / "test/a/1.jpg")
    (tree / "train/a/2.jpg").unlink()
    faults = SplitFile.of(tree).layout_faults(names_of(tree))
    assert [fault.split("a/")[1].split(" ")[0] for fault in faults] == ["1.jpg", "2.jpg"]


@pytest.mark.parametrize("text", ["{", "[]", '{"files": [{}]}', '{"files": 3}', '{"schema": 9, "files": []}'])
def test_a_damaged_split_json_is_one_line(tmp_path, text):
    (tmp_path / "split.json").write_text(text)
    with pytest.raises(InputError, match=r"split\.json (is damaged|has schema 9)"):
        SplitFile.of(tmp_path)
