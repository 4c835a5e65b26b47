"""What a contact sheet shows: some people of every part, their faces whole and in their places."""

import itertools
from collections import defaultdict

import numpy as np
import pytest
from PIL import Image
from support import small_disk

from lossbench.data.inspect.contact_sheet import contact_sheet, write_sheet
from lossbench.data.tree import PARTS
from lossbench.errors import InputError

SIDE, TEXT = 16, 16


def painted(root, people, images=6):
    """Write a tree whose images have one colour each; returns part, person and file by colour."""
    colours = {}
    for number, (part, person, image) in enumerate(itertools.product(PARTS, people, range(images))):
        folder = root / part / person
        folder.mkdir(parents=True, exist_ok=True)
        colour = (number % 250, 100, 2 + number // 250)
        colours[colour] = (part, person, f"{image}.png")
        Image.new("RGB", (SIDE, SIDE), colour).save(folder / f"{image}.png")
    return colours


def cells(sheet, row):
    """Return the colours in the middle of a row's cells."""
    return [sheet.getpixel((x, row * (SIDE + TEXT) + TEXT + SIDE // 2)) for x in range(SIDE // 2, sheet.width, SIDE)]


def test_every_row_shows_images_of_one_person_of_its_part(tmp_path):
    colours = painted(tmp_path, [f"p{i}" for i in range(9)])
    sheet = contact_sheet(tmp_path, people=2, images=4, side=SIDE)
    assert sheet.size == (4 * SIDE, 2 * len(PARTS) * (SIDE + TEXT))
    shown = defaultdict(list)
    for row in range(2 * len(PARTS)):
        found = [colours[colour] for colour in cells(sheet, row)]
        assert len({(part, person) for part, person, _ in found}) == 1
        assert len({file for _, _, file in found}) == 4
        shown[found[0][0]].append(found[0][1])
    assert list(shown) == list(PARTS)
    assert all(len(set(people)) == 2 for people in shown.values())


def test_names_alone_decide_who_is_shown(tmp_path):
    """Neither the order on the disk nor people who are not shown."""
    people = [f"p{i}" for i in range(9)]
    colours = painted(tmp_path / "one", people)
    sheet = contact_sheet(tmp_path / "one", people=2, images=2, side=SIDE)
    shown = sorted({colours[colour][1] for row in range(2) for colour in cells(sheet, row)})
    others = painted(tmp_path / "two", [*shown[::-1], *[p for p in people if p not in shown][:3]])
    again = contact_sheet(tmp_path / "two", people=2, images=2, side=SIDE)
    assert [others[c] for row in range(2) for c in cells(again, row)] == [
        colours[c] for row in range(2) for c in cells(sheet, row)
    ]
    assert shown != people[:2]


def test_a_sheet_is_no_wider_than_its_faces_and_keeps_their_proportions(tmp_path):
    folder = tmp_path / "query" / "Zoë"
    folder.mkdir(parents=True)
    Image.new("RGB", (64, 32), "red").save(folder / "wide.png")
    sheet = contact_sheet(tmp_path, people=4, images=10, side=SIDE)
    assert sheet.size == (SIDE, SIDE + TEXT)
    column = [sheet.getpixel((SIDE // 2, TEXT + y)) == (255, 0, 0) for y in range(SIDE)]
    assert column == [False] * 4 + [True] * 8 + [False] * 4


@pytest.mark.parametrize(("name", "kind"), [("sheet.PNG", "PNG"), ("sheet.JPG", "JPEG"), ("sheet.jpeg", "JPEG")])
def test_the_suffix_decides_the_format(tmp_path, name, kind):
    write_sheet(Image.new("RGB", (9, 5)), tmp_path / name)
    with Image.open(tmp_path / name) as found:
        assert (found.format, found.size) == (kind, (9, 5))


def test_a_sheet_that_cannot_be_written_leaves_the_one_that_was_there(tmp_path):
    old, new = Image.new("RGB", (9, 5)), Image.effect_noise((200, 200), 60)
    write_sheet(old, tmp_path / "sheet.png")
    before = (tmp_path / "sheet.png").read_bytes()
    with small_disk(1000), pytest.raises(InputError, match=r"cannot be written \(File too large\); choose another"):
        write_sheet(new, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_another_suffix_and_a_folder_without_parts_are_one_line(tmp_path):
    with pytest.raises(InputError, match=r"\A--out '[^\n]*sheet.gif' should end in \.png or \.jpg\Z"):
        write_sheet(Image.new("RGB", (9, 5)), tmp_path / "sheet.gif")
    (tmp_path / "train" / "nobody").mkdir(parents=True)
    with pytest.raises(InputError, match=r"\A[^\n]* holds none of train/, val/, [^\n]* with images of people\Z"):
        contact_sheet(tmp_path)


def test_names_outside_ascii_are_drawn_as_they_are(tmp_path):
    """ë differs from e in its dots alone, which stand above it."""
    heads = []
    for name in ("Zoe", "Zoë"):
        folder = tmp_path / name / "query" / name
        folder.mkdir(parents=True)
        Image.new("RGB", (100, 100), "red").save(folder / "1.png")
        sheet = contact_sheet(tmp_path / name, people=1, images=1, side=100)
        heads.append(np.asarray(sheet.convert("L"))[:TEXT].astype(int))
    rows = np.flatnonzero((heads[0] != heads[1]).any(axis=1))
    assert len(rows)
    assert rows.max() < np.flatnonzero((heads[0] < 128).any(axis=1)).max() - 5, "above the line, no further letters"
