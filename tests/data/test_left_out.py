"""Files that are not read are counted, each with its reason."""

import pytest

from lossbench.data.left_out import left_out, left_out_of_tree
from lossbench.data.tree import read_images


@pytest.fixture
def folder(tmp_path):
    names = ["a/1.jpg", "a/2.HEIC", "a/3.heic", "a/4.jfif", "a/5", "a/more/6.jpg", "7.png", "notes.txt"]
    names += ["a/._1.jpg", "a/.DS_Store", "a/@eaDir/1.jpg/THUMB_M.jpg", "__MACOSX/a/1.jpg", "a/Thumbs.db"]
    for name in names:
        file = tmp_path / "faces" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"photo")
    return tmp_path / "faces"


def test_everything_but_what_is_used_is_counted_by_its_reason(folder):
    assert left_out(folder, [folder / "a/1.jpg"]) == (
        "9 files: 2 .heic, 1 .jfif and 1 without a suffix (not read: convert photos to .jpg), 1 images in deeper "
        "folders, 1 images outside of folders of people, 3 hidden or in folders of an operating system, such as @eaDir"
    )


def test_where_everything_is_used_it_is_silent(folder):
    (folder / "a" / ".DS_Store").rename(folder / "a" / "more" / ".DS_Store")
    more = folder / "a" / "more"
    assert left_out(more, [more / "6.jpg"], people=False) == ""


def test_a_linked_person_is_looked_into_and_deeper_links_are_counted(folder, tmp_path):
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "8.gif").write_bytes(b"photo")
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "b").symlink_to(tmp_path / "linked")
    assert left_out(tmp_path / "people", []) == "1 file: 1 .gif (not read: convert photos to .jpg)"
    assert left_out(tmp_path / "people", [], people=False) == "1 file: 1 linked folders"
    (folder / "a" / "loop").symlink_to(folder)
    assert "1 linked folders" in left_out(folder, [])


def test_images_at_any_depth_are_read_without_litter(folder):
    files, names = read_images(folder)
    assert names == ("7.png", "a/1.jpg", "a/more/6.jpg")
    assert left_out(folder, files, people=False) == (
        "8 files: 2 .heic, 1 .jfif, 1 .txt and 1 without a suffix (not read: convert photos to .jpg), 3 hidden or in "
        "folders of an operating system, such as @eaDir"
    )


def test_a_data_tree_is_counted_part_by_part(tree):
    used = list(tree.rglob("*.jpg"))
    assert left_out_of_tree(tree, used) == []
    (tree / "val" / "p0" / "x.HEIC").write_bytes(b"photo")
    (tree / "query" / "x.jpg").write_bytes(b"photo")
    assert left_out_of_tree(tree, used) == [
        "val/: 1 file: 1 .heic (not read: convert photos to .jpg)",
        "query/: 1 file: 1 images outside of folders of people",
    ]
    assert left_out_of_tree(tree, used, ["train", "val"]) == [
        "val/: 1 file: 1 .heic (not read: convert photos to .jpg)"
    ]
