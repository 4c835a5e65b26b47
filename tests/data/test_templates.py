"""Lists of templates as IJB ships them and as CSV, and what is wrong with them in one line."""

import numpy as np
import pytest

from lossbench.data import templates as module
from lossbench.data.templates import read_templates
from lossbench.errors import InputError

LISTING = "1.jpg 11 100\n2.jpg 11 100\n3.jpg 11 101\n1.jpg 9 100\n4.jpg 20 102\n"
PAIRS = "11 9 1\n9 20 0\n11 20 0\n"
HEADED = (
    "image,template,media,person,score\n1.jpg,11,100,Ann,0.5\n2.jpg,11,100,Ann,1\n1.jpg,9,7,Ann,1\n"
    '4.jpg,20,8,"B, C",1\n'
)


@pytest.fixture
def folder(tmp_path):
    for i in range(1, 5):
        (tmp_path / f"{i}.jpg").write_bytes(b"")
    return tmp_path


def read(folder, listing=LISTING, pairs=PAIRS, ending="txt"):
    (folder / f"tid_mid.{ending}").write_text(listing)
    (folder / f"label.{ending}").write_text(pairs)
    return read_templates(folder / f"tid_mid.{ending}", folder / f"label.{ending}")


def test_files_as_ijb_ships_them(folder):
    found = read(folder)
    assert [file.name for file in found.files] == ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]
    assert found.name == "label"
    assert [found.ids[t] for t in found.templates] == ["11", "11", "11", "9", "20"]
    assert found.rows.tolist() == [0, 1, 2, 0, 3]
    assert (found.media_count, found.people, found.weights) == (4, None, None)
    assert [(found.ids[a], found.ids[b]) for a, b in zip(found.a, found.b, strict=True)] == [
        ("11", "9"), ("9", "20"), ("11", "20"),
    ]  # fmt: skip
    assert found.same.tolist() == [True, False, False]


def test_a_csv_may_say_people_and_scores(folder):
    found = read(folder, HEADED, "label,template2,template1\n1,9,11\n0,20,9\n", "csv")
    assert dict(zip(found.ids, found.people, strict=True)) == {"11": "Ann", "9": "Ann", "20": "B, C"}
    assert found.weights.tolist() == [0.5, 1, 1, 1]
    assert [found.ids[a] for a in found.a] == ["11", "9"]


def test_a_long_list_is_read_in_parts(folder, monkeypatch):
    pairs = "".join(f"11 {9 if i % 3 else 20} {int(bool(i % 3))}\n" for i in range(100))
    whole = read(folder, pairs=pairs)
    monkeypatch.setattr(module, "_CHUNK", 7)
    parts = read(folder, pairs=pairs)
    for name in ("a", "b", "same"):
        assert np.array_equal(getattr(parts, name), getattr(whole, name))
        assert len(getattr(parts, name)) == 100
    assert parts.a.dtype == np.int32
    with pytest.raises(InputError, match=r"label.txt line 101: template2 '7' is not among the templates"):
        read(folder, pairs=f"{pairs}11 7 0\n")


@pytest.mark.parametrize(
    ("listing", "pairs", "says"),
    [
        (LISTING, "11 9 1\n11 20\n", "label.txt line 2: no label; it should be template1 template2 label"),
        (
            LISTING,
            "11 9 1\n11 20 0 0\n",
            r"\Alabel.txt line 2: 4 fields instead of 3; it should be template1 template2 label, separated by blanks, "
            r"or a CSV with these headers, as for names that contain blanks\Z",
        ),
        (
            LISTING + "my photo.jpg 20 1\n",
            PAIRS,
            r"\Atid_mid.txt line 6: 4 fields instead of 3; it should be image temp",
        ),
        (
            LISTING.replace("1.jpg", "my photo.jpg"),
            PAIRS,
            r"\Atid_mid.txt line 1: 4 fields; it should be image template",
        ),
        (
            HEADED + "a,b.jpg,20,8,Ann,1\n",
            PAIRS,
            r"\Atid_mid.txt line 6: 6 fields instead of 5; it should be image temp",
        ),
        (LISTING, "11 9 1 1\n", "label.txt line 1: 4 fields"),
        (LISTING, "template1,template2,label\n0,11,9,1\n", "label.txt line 2: 4 fields"),
        (LISTING, "11 9 1\n11 21 0\n", "line 2: template2 '21' is not among the templates; fix the row"),
        (LISTING, "11 9 1\n11 20 2\n", "line 2: label '2' should be 1 for one person or 0 for two"),
        (LISTING, "11 9 1\n11 11 0\n", "line 2: template2 '11' is paired with itself"),
        (LISTING, "11 9 1\n", "needs pairs of one person and pairs of two"),
        (LISTING, "", "--template-pairs .*label.txt is no list of"),
        (LISTING, "template1,label\n1,2\n", "label.txt has no column 'template2'"),
        (LISTING, "template1,template2,label\n", "label.txt has no row"),
        (
            LISTING + "5.jpg 20 1\n",
            PAIRS,
            r"tid_mid.txt: no image '5.jpg' in .* \(1 of 5 are missing\); name the folder",
        ),
        (LISTING + "../5.jpg 20 1\n", PAIRS, "'../5.jpg' is not a path inside"),
        (HEADED.replace("9,7,Ann", "11,7,Bob"), PAIRS, "tid_mid.txt line 4: template 11 is of Bob and of Ann"),
        (HEADED.replace("0.5", "good"), PAIRS, "tid_mid.txt: a score is no number"),
        (HEADED.replace("0.5", "-1"), PAIRS, "tid_mid.txt line 2: a score must be a number above 0"),
        (HEADED, "11 9 0\n9 20 0\n", "label.txt line 1: label '0' contradicts the people of the two templates"),
    ],
)
def test_what_is_wrong_is_one_line(folder, listing, pairs, says):
    with pytest.raises(InputError, match=says) as error:
        read(folder, listing, pairs)
    assert "\n" not in str(error.value)


def test_a_list_that_is_not_there(folder):
    (folder / "label.txt").write_text(PAIRS)
    with pytest.raises(InputError, match=r"--templates .*none.txt cannot be read: No such file"):
        read_templates(folder / "none.txt", folder / "label.txt")
    (folder / "bytes.txt").write_bytes(b"\xff\xfe\x00 1 2\n")
    with pytest.raises(InputError, match=r"--templates .*bytes.txt is no list of"):
        read_templates(folder / "bytes.txt", folder / "label.txt")
