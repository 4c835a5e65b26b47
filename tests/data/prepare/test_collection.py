"""A tree of photos as it is read: the person and the landmarks of each file, and what is refused in one line."""

import inspect
import os
from pathlib import Path

import pytest
from sklearn.datasets import fetch_lfw_people

from lossbench.data.prepare.collection import LFW_BOX, read_folder, read_landmark_csv
from lossbench.data.tree import PARTS
from lossbench.errors import InputError

TEN = tuple(float(number) for number in range(1, 11))
ROW = ",".join(map(str, TEN))


def photos(root, *names):
    """Write files that are named like photos; they are read later."""
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"photo")
    return root


def test_photos_are_those_in_folders_of_people_in_order(tmp_path):
    root = photos(tmp_path / "in", "b/2.jpg", "b/1.PNG", "a/x.webp", "b/notes.txt", "b/deeper/3.jpg", "top.jpg")
    found = read_folder(root)
    assert [(photo.path.relative_to(root).as_posix(), photo.person, photo.landmarks) for photo in found.photos] == [
        ("a/x.webp", "a", None), ("b/1.PNG", "b", None), ("b/2.jpg", "b", None)
    ]  # fmt: skip
    assert found.per_person() == {"a": 1, "b": 2}
    assert (found.kind, found.root, found.absent) == ("folder", root, ())
    assert found.notes == (
        "left out: 3 files: 1 .txt (not read: convert photos to .jpg), 1 images in deeper folders, 1 images outside of "
        "folders of people",
    )
    assert found.face_box == (0.5, 0.5, 1)  # the whole square in the middle


def test_lfws_box_has_the_height_and_the_centre_of_scikit_learns_faces():
    rows, columns = inspect.signature(fetch_lfw_people).parameters["slice_"].default
    x, y, side = (250 * share for share in LFW_BOX)
    assert (y - side / 2, y + side / 2) == (rows.start, rows.stop)
    assert x == (columns.start + columns.stop) / 2
    assert side == rows.stop - rows.start


def test_lfw_is_a_folder_with_the_face_in_its_middle(tmp_path):
    assert read_folder(photos(tmp_path, "a/x.jpg"), kind="lfw").face_box == LFW_BOX


def test_photos_without_a_row_of_landmarks_are_left_out_and_rows_without_a_photo_are_absent(tmp_path):
    root = photos(tmp_path / "in", "a/1.jpg", "a/2.jpg", "b/1.jpg", r"b/with\a backslash.jpg")
    (tmp_path / "marks.csv").write_text(f"a/2.jpg,{ROW}\nc/9.jpg,{ROW}\nb/with\\a backslash.jpg,{ROW}\n")
    found = read_folder(root, tmp_path / "marks.csv")
    read = [(photo.path.name, photo.landmarks) for photo in found.photos]
    assert read == [("2.jpg", TEN), (r"with\a backslash.jpg", TEN)]
    assert found.absent == ("c/9.jpg",)
    assert found.notes == (f"2 images have no landmarks in {tmp_path}/marks.csv and are left out",)


@pytest.mark.parametrize("before", ["", "path,x1,y1\n", "\ufeff", "\ufeffpath,x1\n", "\n\n"])
def test_a_header_a_mark_of_utf_8_and_empty_rows_are_no_rows(tmp_path, before):
    (tmp_path / "marks.csv").write_text(f'{before}a/1.jpg,{ROW}\n\n"b/Zoë, 2.jpg",{ROW}\n', encoding="utf-8")
    assert read_landmark_csv(tmp_path / "marks.csv") == {"a/1.jpg": TEN, "b/Zoë, 2.jpg": TEN}


@pytest.mark.parametrize("separator", [",", ";", "\t", " ", "   ", ", "])
@pytest.mark.parametrize("header", ["", "path,x1,y1\n"])
@pytest.mark.parametrize("written", ["a/1.jpg", r"a\1.jpg", "./a/1.jpg", r".\a\1.jpg"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_other_separators_backslashes_and_encodings_are_read(tmp_path, separator, header, written, encoding):
    rows = [[written, *map(str, TEN)], [written.replace("1", "2"), *(str(-value) for value in TEN)]]
    text = header.replace(",", separator) + "".join(separator.join(row) + "\r\n" for row in rows)
    (tmp_path / "marks.csv").write_bytes(text.encode(encoding))
    assert read_landmark_csv(tmp_path / "marks.csv") == {"a/1.jpg": TEN, "a/2.jpg": tuple(-value for value in TEN)}


@pytest.mark.parametrize("separator", [";", "\t"])
def test_a_comma_may_be_the_decimal_point(tmp_path, separator):
    row = separator.join(["Müller, A/1.jpg", *(f"{value:.1f}".replace(".", ",") for value in TEN)])
    (tmp_path / "marks.csv").write_text(row, encoding="utf-8")
    assert read_landmark_csv(tmp_path / "marks.csv") == {"Müller, A/1.jpg": TEN}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"a.jpg,{ROW}\nb.jpg,{ROW}\na.jpg,{ROW}\n".encode(), "line 3: 'a.jpg' occurs twice; keep one row"),
        (f"path;x\na.jpg;{ROW.replace(',', ';')};11\n".encode(), "line 2: '1.0 2.0 [^\n]*' should be ten numbers"),
        (b"a.jpg;1;2;3\n", "line 1: '1 2 3' should be ten numbers"),
        (b"path,x\npath,y\n", "line 2: 'y' should be ten numbers"),
        (f"path,x\na.jpg,{ROW},11\n".encode(), "line 2: '1.0 2.0 [^\n]*' should be ten numbers"),
        (f"path,x\na.jpg,{ROW}\npath,x\n".encode(), "line 3: 'x' should be ten numbers"),
        (f"a.jpg,{ROW}\nb.jpg,1,2,3,4,5,6,7,8,9,nan\n".encode(), "line 2: [^\n]*nan' should be ten numbers"),
        (b"a.jpg,1,2,3,4,5,6,7,8,9,inf\n", "line 1: [^\n]*inf' should be ten numbers"),
        (b"a.jpg,1,2,3\n", "line 1: '1 2 3' should be ten numbers"),
        (f"../a.jpg,{ROW}\n".encode(), "line 1: '../a.jpg' is not a path inside"),
        (f"/etc/passwd,{ROW}\n".encode(), "line 1: '/etc/passwd' is not a path inside"),
        (b"a.jpg,\xff\n", "is not a CSV in UTF-8"),
        (f"a.jpg,{'1' * 200_000}\n".encode(), "is not a CSV in UTF-8: field larger than"),
    ],
)
def test_a_malformed_csv_is_one_line(tmp_path, content, says):
    (tmp_path / "marks.csv").write_bytes(content)
    with pytest.raises(InputError, match=rf"\A[^\n]*marks.csv {says}[^\n]*\Z"):
        read_landmark_csv(tmp_path / "marks.csv")


def test_further_columns_that_the_header_names_are_not_read_and_blank_landmarks_are_none(tmp_path):
    blank = "," * 9
    header = "path," + ",".join(f"c{i}" for i in range(12)) + "\n"
    (tmp_path / "marks.csv").write_text(
        f'{header}a/1.jpg,{ROW},0.99,"2, faces"\na/2.jpg,{blank},,no face\na/3.jpg,{ROW}'
    )
    assert read_landmark_csv(tmp_path / "marks.csv") == {"a/1.jpg": TEN, "a/3.jpg": TEN}
    for row, says in (
        (f"a/1.jpg,{ROW},1,2,3", "line 2: '[^\n]*' should be ten numbers"),
        (f"a/1.jpg,{ROW.replace('5.0', '')},1,2", "line 2: '[^\n]*' should be ten numbers"),
        (f"a/1.jpg,{blank},1,2\na/1.jpg,{ROW},1,2", "line 3: 'a/1.jpg' occurs twice"),
    ):
        (tmp_path / "marks.csv").write_text(header + row)
        with pytest.raises(InputError, match=says):
            read_landmark_csv(tmp_path / "marks.csv")


def test_photos_without_landmarks_can_be_kept(tmp_path):
    root = photos(tmp_path / "in", "a/1.jpg", "a/2.jpg")
    (tmp_path / "marks.csv").write_text(f"a/2.jpg,{ROW}\n")
    found = read_folder(root, tmp_path / "marks.csv", keep_unmarked=True)
    assert [photo.landmarks for photo in found.photos] == [None, TEN]
    assert found.notes == (f"1 images have no landmarks in {tmp_path}/marks.csv and are cropped about the centre",)
    (tmp_path / "marks.csv").write_text(f"b/2.jpg,{ROW}\n")
    with pytest.raises(InputError, match="has no row for any photo"):
        read_folder(root, tmp_path / "marks.csv", keep_unmarked=True)


def test_a_csv_and_a_folder_that_are_not_there_or_empty_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"\A--landmarks [^\n]*none.csv cannot be read: No such file[^\n]*\Z"):
        read_landmark_csv(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"\A--root: no folder [^\n]*none; give a folder[^\n]*\Z"):
        read_folder(tmp_path / "none")
    photos(tmp_path, "top.jpg", "a/notes.txt")
    with pytest.raises(InputError, match=r"\A--root: [^\n]* holds no images in folders of people[^\n]*\Z"):
        read_folder(tmp_path)


def test_people_of_whom_no_image_is_read_are_named_also_where_nobody_is_left(tmp_path):
    root = photos(tmp_path / "in", "a/1.jpg", "b/1.HEIC", "b/2.heic", "c/3")
    left = "left out: 3 files: 2 .heic and 1 without a suffix (not read: convert photos to .jpg)"
    assert read_folder(root).notes == (left, "2 folders hold no images that are read: b, c")
    (root / "a/1.jpg").unlink()
    with pytest.raises(InputError, match=r"FILE.jpg; it holds 3 files: 2 .heic and 1 without a suffix"):
        read_folder(root)


def test_landmarks_of_no_photo_there_are_not_taken_for_missing_photos(tmp_path):
    root = photos(tmp_path / "in", "a/1.jpg")
    (tmp_path / "marks.csv").write_text(f"in/a/1.jpg,{ROW}\n")
    with pytest.raises(
        InputError, match=r"\A--landmarks [^\n]* no row for any photo: its first row is of 'in/a/1.jpg', "
    ):
        read_folder(root, tmp_path / "marks.csv")


def test_a_tree_that_is_split_already_is_not_a_collection(tmp_path):
    photos(tmp_path, *(f"{part}/1.jpg" for part in PARTS[1:]))
    assert set(read_folder(tmp_path).per_person()) == set(PARTS[1:]), "people of odd names"
    photos(tmp_path, f"{PARTS[0]}/a/1.jpg")
    with pytest.raises(InputError, match=r"\A--root: [^\n]* is already split; use it as it is: lossbench run --data "):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", [b"line\nbreak.png", b"tab\t.png", b"\xff\xfe.png"])
def test_a_name_that_no_text_file_can_hold_is_refused(face_tree, name):
    root = face_tree({"p00": 1})
    Path(os.fsdecode(os.fsencode(root) + b"/p00/" + name)).write_bytes(b"")
    with pytest.raises(InputError, match="a tab or line break, or bytes that are not UTF-8") as raised:
        read_folder(root)
    str(raised.value).encode("utf-8")  # can be printed


def test_a_link_in_a_circle_is_refused(face_tree):
    root = face_tree({"p00": 1})
    (root / "loop").symlink_to(root / "loop")
    with pytest.raises(InputError, match="in a circle"):
        read_folder(root)
