import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lossbench.data.inspect.check import check_tree, write_findings
from lossbench.data.prepare.collection import read_folder
from lossbench.data.prepare.options import CropOptions, SplitOptions
from lossbench.data.prepare.prepare import prepare
from lossbench.errors import InputError


@pytest.fixture
def tree(face_tree, tmp_path):
    root = face_tree({f"p{i:02d}": 6 for i in range(12)})
    return prepare(read_folder(root), tmp_path / "tree", SplitOptions(6, 4, 3, 3), CropOptions(64)).folder


def findings(tree):
    return {finding.check: finding for finding in check_tree(tree)}


def leaks(tree):
    return {finding.check for finding in check_tree(tree) if finding.verdict == "leak"}


def first(tree, part, index=0):
    return sorted((tree / part).rglob("*.jpg"))[index]


def test_a_clean_tree_has_no_flaw(tree):
    assert {f.verdict for f in check_tree(tree)} <= {"ok", "note"}
    assert findings(tree)["split.json"].verdict == "ok"


@pytest.mark.parametrize(
    ("source", "target", "check"),
    [
        ("train", "test", "near-duplicates across train, val, test"),
        ("train", "query", "near-duplicates across closed set, query, distractors"),
        ("query", "distractors", "near-duplicates across closed set, query, distractors"),
    ],
)
def test_a_copy_in_another_split_is_a_leak(tree, source, target, check):
    with Image.open(first(tree, source)) as image:
        image.resize((50, 50)).resize((64, 64)).save(first(tree, target), quality=70)
    assert leaks(tree) == {check}
    found = findings(tree)[check]
    assert found.count == 1
    assert {found.details[0]["a"], found.details[0]["b"]} == {
        first(tree, part).relative_to(tree).as_posix() for part in (source, target)
    }
    assert found.details[0]["identical"] is False


def test_a_copy_in_the_same_split_is_a_note(tree):
    shutil.copy(first(tree, "train"), first(tree, "train", 1))
    found = findings(tree)["near-duplicates in one split"]
    assert (found.verdict, found.count, found.details[0]["identical"]) == ("note", 1, True)
    assert leaks(tree) == set()


def test_people_in_two_sets_are_a_leak(tree):
    person = first(tree, "train").parent.name
    other = next((tree / "query").iterdir())
    other.rename(tree / "query" / person)
    found = findings(tree)["people in two sets"]
    assert (found.verdict, list(found.details)) == ("leak", [f"{person} is in the closed set and in query"])


def test_unreadable_images_sizes_and_missing_images_are_flaws(tree):
    first(tree, "val").write_bytes(b"broken")
    Image.new("RGB", (20, 64)).save(first(tree, "test"))
    for extra in sorted(next((tree / "query").iterdir()).iterdir())[1:]:
        extra.unlink()
    found = findings(tree)
    assert found["unreadable images"].count == 1
    assert "known format" in found["unreadable images"].text
    assert "20x64" in found["wrong sizes"].text
    assert "holds 1 image, needs 2" in found["too few images or people"].text
    assert found["split.json"].verdict == "flaw"


def test_a_damaged_file_is_no_longer_what_split_json_lists(tree):
    damaged = first(tree, "val")
    damaged.write_bytes(damaged.read_bytes()[:300])
    found = findings(tree)["split.json"]
    assert (found.verdict, found.count) == ("flaw", 1)
    assert "of 72 files 72 were compared with it" in found.text
    assert f"{damaged.name} is not the file that split.json describes: its content changed" in found.text


def test_what_cannot_be_read_is_not_called_ok(tree, monkeypatch):
    locked = first(tree, "val")

    def refuse(file):
        if file == locked:
            raise InputError(f"{file} cannot be read (Permission denied); replace or remove it")
        return file.read_bytes()

    monkeypatch.setattr("lossbench.data.inspect.check.read_bytes", refuse)  # root may read everything
    found = findings(tree)["split.json"]
    assert (found.verdict, found.count) == ("flaw", 1)
    assert "of 72 files 71 were compared" in found.text
    assert f"{locked.name} cannot be read, so a change cannot be detected" in found.text


def test_strange_files_do_not_stop_the_check(tree):
    folder = os.fsencode(first(tree, "train").parent)
    Path(os.fsdecode(folder + b"/a\nb.jpg")).write_bytes(b"")
    Path(os.fsdecode(folder + b"/\xff.jpg")).write_bytes(b"")
    (tree / "train" / "loop").symlink_to(tree / "train" / "loop")
    found = findings(tree)["unreadable images"]
    assert found.count == 3
    assert "was added after the split was made" in findings(tree)["split.json"].text
    write_findings(tree / "check.json", tree, check_tree(tree))
    assert json.loads((tree / "check.json").read_text(encoding="utf-8"))["findings"][1]["count"] == 3


def test_operating_points_are_those_that_the_pairs_support(tree):
    found = findings(tree)["identification rate"]
    # 3 query people x 6 images, 3 x 6 distractors: 18 x 17 / 2 pairs, 3 x 15 of one person, 18 x 18 with distractors
    negatives = 153 - 45 + 324
    assert found.count == 45
    assert f"{negatives} of two" in found.text
    assert [row["fpr"] for row in found.details if row["supported"]] == [
        f for f in (0.1, 0.05, 0.01) if f * negatives >= 1
    ]
    assert [row["fpr"] for row in found.details if row["thin"]] == [0.01], "four negatives above it"
    assert found.text.endswith("0.1, 0.05, 0.01 (by fewer than ten negatives: 0.01); not 0.001, 0.0001, 1e-5, 1e-6")


def test_imbalance(tree):
    for file in sorted(first(tree, "train").parent.iterdir())[1:]:
        file.unlink()
    assert "1 to 4" in findings(tree)["images per training person"].text


def test_nothing_to_check_is_one_line(tmp_path):
    with pytest.raises(InputError, match="no folder"):
        check_tree(tmp_path / "none")
    with pytest.raises(InputError, match="holds no images"):
        check_tree(tmp_path)


def test_images_on_which_no_face_can_be_seen_are_noted(tree):
    """Crops of landmarks of another image are black, of normalised ones a few pixels of skin."""
    assert (findings(tree)["flat images"].verdict, findings(tree)["flat images"].text) == ("ok", "")
    Image.new("RGB", (64, 64)).save(first(tree, "train"))
    Image.linear_gradient("L").point(lambda v: 150 + v // 32).resize((64, 64)).save(first(tree, "query"))
    found = findings(tree)["flat images"]
    assert (found.verdict, found.count) == ("note", 2)
    assert found.details[0].endswith("(contrast 0.0 of 255)")
    assert "no face can be seen" in found.text
