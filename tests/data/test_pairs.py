import os
from itertools import combinations
from pathlib import Path

import pytest

from lossbench.data.pairs import draw_pairs, read_pairs
from lossbench.errors import InputError


@pytest.fixture
def tree(tmp_path):
    for part, people in {"train": ["t1"], "query": ["Ann", "Bob Lee"], "distractors": ["Cy"]}.items():
        for person in people:
            (tmp_path / part / person).mkdir(parents=True)
            for i in (1, 2):
                (tmp_path / part / person / f"{person}_{i:04d}.jpg").write_bytes(b"")
    (tmp_path / "query" / "Ann" / "000023.jpg").write_bytes(b"")
    for part in ("val", "test"):
        (tmp_path / part).mkdir()
    return tmp_path


def write(tree, text):
    (tree / "pairs.txt").write_text(text)
    return tree / "pairs.txt"


def test_lfw_format_with_numbers_and_names(tree):
    text = "2\t1\nAnn\t1\t2\nAnn\t1\tBob Lee\t2\nBob Lee\t1\t2\nCy\t2\tAnn\t000023\n"
    pairs = read_pairs(write(tree, text), tree)
    names = [(pairs.files[a].name, pairs.files[b].name) for a, b in zip(pairs.a, pairs.b, strict=True)]
    assert names == [
        ("Ann_0001.jpg", "Ann_0002.jpg"),
        ("Ann_0001.jpg", "Bob Lee_0002.jpg"),
        ("Bob Lee_0001.jpg", "Bob Lee_0002.jpg"),
        ("Cy_0002.jpg", "000023.jpg"),
    ]
    assert pairs.same == (True, False, True, False)
    assert pairs.folds == (0, 0, 1, 1)
    assert len(pairs.files) == len(set(pairs.files)) == 6


def test_without_folds_in_the_file_each_has_pairs_of_both_kinds(tree):
    (tree / "query" / "Many").mkdir()
    for i in range(1, 22):
        (tree / "query" / "Many" / f"Many_{i:04d}.jpg").write_bytes(b"")
    same = [f"Many\t{i}\t{i + 1}" for i in range(1, 21)]
    different = [f"Many\t{i}\tAnn\t1" for i in range(1, 21)]
    for head in ("20", "1\t20"):  # as LFW's pairsDevTest.txt: all of one person first
        pairs = read_pairs(write(tree, "\n".join([head, *same, *different]) + "\n"), tree)
        assert sorted(zip(pairs.folds, pairs.same, strict=True)) == sorted(
            (fold, kind) for fold in range(10) for kind in (True, False) for _ in range(2)
        )


def test_folders_may_lie_beside_the_pairs_file(tree):
    path = write(tree / "distractors", "1\nCy 1 2\nCy 1 Ann 000023\n")
    (tree / "query" / "Ann").rename(tree / "distractors" / "Ann")
    assert len(read_pairs(path, None).files) == 3


def test_names_may_carry_their_suffix(tree):
    text = "1\nAnn\tAnn_0001.jpg\t000023.jpg\nAnn\t000023\tCy\tCy_0001.jpg\n"
    assert [f.name for f in read_pairs(write(tree, text), tree).files] == ["Ann_0001.jpg", "000023.jpg", "Cy_0001.jpg"]


def test_a_name_without_suffix_that_two_files_have_is_refused(tree):
    (tree / "query" / "Ann" / "000023.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"'000023' of 'Ann' may be 000023.jpg or 000023.png; write the suffix"):
        read_pairs(write(tree, "1\nAnn\t1\t000023\nAnn\t1\tCy\t1\n"), tree)
    pairs = read_pairs(write(tree, "1\nAnn\t000023.png\t000023.jpg\nAnn\t1\tCy\t1\n"), tree)
    assert [pairs.files[i].name for i in (pairs.a[0], pairs.b[0])] == ["000023.png", "000023.jpg"]


@pytest.mark.parametrize("name", ["Cy ", " Dan", "Li\u3000", "Anna, B", "-rf", "two  blanks", "Zoë\u00a0"])
def test_a_drawn_file_is_read_whatever_the_names(tmp_path, name):
    people = {name: ["a .jpg", " b.jpg", "c.d.jpg", "4.jpg"], "Other": ["1.jpg", "2.jpg", "3.jpg", "4.jpg"]}
    for person, images in people.items():
        (tmp_path / "query" / person).mkdir(parents=True)
        for image in images:
            (tmp_path / "query" / person / image).write_bytes(b"")
    pairs = read_pairs(write(tmp_path, draw_pairs(people, 0)), tmp_path)
    assert {file.parent.name for file in pairs.files} == set(people)


def test_blanks_around_fields_are_no_part_of_a_name(tree):
    assert len(read_pairs(write(tree, "1 \nAnn \t 1\t2 \nAnn\t1 \t Cy\t 1\n"), tree).files) == 3


def test_repeated_pairs_are_noted_in_either_order(tree):
    text = "3\nAnn\t1\t2\nAnn\t2\t1\nAnn\t1\t000023\nAnn\t1\tCy\t1\nCy\t1\tAnn\t1\nAnn\t1\tCy\t1\n"
    pairs = read_pairs(write(tree, text), tree)
    assert pairs.notes == ("pairs.txt: 3 of 6 pairs repeat another; each counts",)
    assert len(pairs.a) == 6
    assert read_pairs(write(tree, "1\nAnn\t1\t2\nAnn\t1\tCy\t1\n"), tree).notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\nAnn\t1\t7\nAnn\t1\tCy\t1\n", "line 2: no image '7' of 'Ann' among the 3"),
        ("1\nDan\t1\t2\nAnn\t1\tCy\t1\n", "line 2: no person called 'Dan'"),
        ("1\nt1\t1\t2\nAnn\t1\tCy\t1\n", "'t1' is a training person"),
        ("1\nAnn\t1\t1\nAnn\t1\tCy\t1\n", "line 2: pairs 'Ann_0001.jpg' with itself"),
        ("1\nAnn\t1\tAnn_0001.jpg\nAnn\t1\tCy\t1\n", "line 2: pairs 'Ann_0001.jpg' with itself"),
        ("1\nAnn\t1\t2\nAnn\t1\tAnn\t2\n", "line 3: 'Ann' twice is no pair of two people; write NAME N M"),
        ("1\n..\t1\t2\nAnn\t1\tCy\t1\n", "'..' is not a path inside"),
        ("1\n../query/Ann\t1\t2\nAnn\t1\tCy\t1\n", "without any path"),
        ("1\nAnn\t../Ann/000023\t2\nAnn\t1\tCy\t1\n", "no image"),
        ("1\nAnn\t1\nAnn\t1\tCy\t1\n", "line 2: 'Ann 1' should be"),
        ("2\nAnn\t1\t2\nAnn\t1\tCy\t1\n", "announces 4 pairs and 2 follow"),
        ("pairs\nAnn\t1\t2\n", "line 1: 'pairs' should be"),
        ("", "line 1"),
        ("1\nAnn\t1\t2\nAnn\t1\t2\n", "only one kind"),
    ],
)
def test_a_bad_pairs_file_is_one_line(tree, text, message):
    with pytest.raises(InputError, match=message) as raised:
        read_pairs(write(tree, text), tree)
    assert "\n" not in str(raised.value)


def test_files_that_are_no_pairs_file(tree):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        read_pairs(tree / "none.txt", tree)
    with pytest.raises(InputError, match="is not prepared; first: lossbench data prepare bin"):
        read_pairs(tree / "lfw.bin", tree)
    (tree / "bytes.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not text in UTF-8"):
        read_pairs(tree / "bytes.txt", tree)
    with pytest.raises(InputError, match=r"query is a folder without pairs\.csv; give the pairs\.txt of a tree"):
        read_pairs(tree / "query", tree)
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        read_pairs(tree / ("n" * 300), tree)
    os.mkfifo(tree / "pipe.txt")
    for endless in (tree / "pipe.txt", Path("/dev/zero")):
        with pytest.raises(InputError, match="is not a file"):
            read_pairs(endless, tree)


@pytest.mark.parametrize(
    "row",
    [
        "{long}\t1\t2",
        "Ann\t{long}\t2",
        "A\0nn\t1\t2",
        "Ann\t1\0\t2",
        ".\t1\t2",
        "/etc\tpasswd\t1",
        "An\u2028n\t1\t2",
        "C:\\x\t1\t2",
        "\t".join("x" * 1_000_000),
    ],
)
def test_a_strange_row_is_one_short_line(tree, row):
    path = write(tree, f"1\n{row.format(long='n' * 300_000)}\nAnn\t1\tCy\t1\n")
    with pytest.raises(InputError, match="line 2") as raised:
        read_pairs(path, tree)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000


def test_a_byte_order_mark_is_no_matter(tree):
    path = write(tree, "\ufeff1\r\nAnn\t1\t2\r\nAnn\t1\tCy\t1\r\n")
    assert read_pairs(path, tree).same == (True, False)


@pytest.mark.parametrize(
    "row",
    [
        "../secret.jpg,images/0.jpg,1",
        "/etc/passwd,images/0.jpg,1",
        "images/0.jpg,x.jpg,0",
        f"images/{'n' * 300_000},images/0.jpg,1",
        "images/0\0.jpg,images/0.jpg,1",
        '"images/0\n.jpg",images/0.jpg,1',
        "x," * 1_000_000,
        "",
    ],
)
def test_a_csv_cannot_leave_its_folder(tree, row):
    (tree / "pairs.csv").write_text(f"a,b,same\n{row}\n")
    (tree / "images").mkdir()
    (tree / "images" / "0.jpg").write_bytes(b"")
    (tree.parent / "secret.jpg").write_bytes(b"")
    with pytest.raises(InputError, match=r"line 2: .*(not a path inside|does not exist|should be PATH)") as raised:
        read_pairs(tree, None)
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 1000


def test_pairs_of_images_of_equal_names_but_of_other_people_are_others(tree):
    """The same images in the same order, which the image store's fingerprint tells not apart."""
    for person in ("Dan", "Eve"):
        (tree / "query" / person).mkdir()
        for name in ("0", "1"):
            (tree / "query" / person / f"{name}.jpg").write_bytes(b"")
    same = "1\t2\nDan\t0\t1\nEve\t0\t1\n"
    found = [
        read_pairs(write(tree, same + different), tree)
        for different in (
            "Dan\t0\tEve\t1\nDan\t1\tEve\t0\n",
            "Eve\t0\tDan\t1\nDan\t1\tEve\t0\n",
            "Dan\t0\tEve\t1\nDan\t1\tEve\t0\n",
        )
    ]
    assert found[0].files == found[1].files
    assert found[0].fingerprint == found[2].fingerprint != found[1].fingerprint


def test_drawn_pairs_are_pairs_of_each_kind_in_disjoint_folds():
    people = {f"p{i}": [f"{j}.jpg" for j in range(5)] for i in range(25)}
    lines = [line.split("\t") for line in draw_pairs(people, 0).splitlines()]
    assert lines[0] == ["10", "20"]  # five folds have two people: 2 x 10 pairs of one person, 25 of two
    rows, seen = lines[1:], {}
    assert len(rows) == 400
    assert len({tuple(row) for row in rows}) == 400
    for i, row in enumerate(rows):
        same = i % 40 < 20
        assert len(row) == (3 if same else 4)
        assert row[0] != row[2] or same
        for person in (row[0], *([] if same else [row[2]])):
            assert seen.setdefault(person, i // 40) == i // 40
    assert draw_pairs(people, 0) == draw_pairs(people, 0) != draw_pairs(people, 1)


def test_few_people_share_the_folds_and_too_few_give_none():
    people = {"a": [f"{j}.jpg" for j in range(6)], "b": [f"{j}.jpg" for j in range(6)]}
    lines = draw_pairs(people, 0).splitlines()
    assert lines[0] == "10\t3"
    same = {tuple(line.split("\t")) for line in lines[1:] if line.count("\t") == 2}
    assert len(same) == 30
    assert same <= {(p, str(x), str(y)) for p in "ab" for x, y in combinations(range(6), 2)}
    assert draw_pairs({"a": ["1.jpg", "2.jpg"], "b": ["1.jpg"]}, 0) is None
