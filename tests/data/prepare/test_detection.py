"""Detection of many photos: what is found is kept as it comes, and taken for that very photo alone."""

import json
import math

import pytest
from PIL import Image
from support import scene

from lossbench.data.prepare.detection import detect_faces, detections_text, read_detections
from lossbench.errors import InputError

pytestmark = pytest.mark.extra("align")


@pytest.fixture
def photos(orl, tmp_path):
    """Ten photos, the first of nobody."""
    found = {f"p/{i}.png": tmp_path / f"{i}.png" for i in range(10)}
    for i, file in enumerate(found.values()):
        scene(*[(orl.files[i * 10], (30 + 15 * i, 20), 1.5)][: int(i > 0)]).save(file)
    return found


def test_what_is_found_is_written_as_it_comes_and_read_back(photos, tmp_path):
    journal, seen = tmp_path / "d.jsonl", []

    def progress(done, total):
        seen.append((done, total, len(journal.read_text().splitlines())))

    found = detect_faces(photos, {}, journal, progress)
    assert seen == [(i, 10, i) for i in range(1, 11)]
    assert [len(one.faces) for one in found.values()] == [0, *[1] * 9]
    assert {one.size for one in found.values()} == {(400, 320)}
    assert read_detections(journal) == found
    assert detections_text(found) == journal.read_text()


def test_any_number_of_processes_finds_the_same(photos, tmp_path):
    alone = detect_faces(photos, {}, tmp_path / "1.jsonl", workers=1)
    assert detect_faces(photos, {}, tmp_path / "2.jsonl", workers=2) == alone
    assert (tmp_path / "1.jsonl").read_bytes() == (tmp_path / "2.jsonl").read_bytes()


def test_a_later_try_looks_only_at_photos_that_are_new_or_changed(photos, tmp_path):
    journal = tmp_path / "d.jsonl"
    found = detect_faces(photos, {}, journal)
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    rows[1]["faces"][0]["confidence"] = 0.5  # so that it can be seen that it is taken from here
    rows[2]["detector"] = "another"
    rows[6]["size"] = [math.inf, 320]
    lines = [json.dumps(row) for row in rows]
    huge = lines[7].replace('"confidence": ', f'"confidence": 1{"0" * 400}')
    damaged = [lines[4].replace('"points": [', '"points": [1, '), lines[6], huge.replace(".", ""), lines[5][:90]]
    journal.write_text("\n".join([*lines[:4], *damaged]))
    photos["p/3.png"].write_bytes(photos["p/0.png"].read_bytes())  # now of nobody
    known = read_detections(journal)
    assert known.keys() == {"p/0.png", "p/1.png", "p/3.png"}, "neither another detector's nor damaged or torn lines"
    journal.write_text("")
    again = detect_faces(photos, known, journal)
    assert again["p/1.png"].faces[0].confidence == 0.5
    assert again["p/3.png"].faces == ()
    unchanged = [name for name in photos if name not in ("p/1.png", "p/3.png")]
    assert all(again[name] == found[name] for name in unchanged)
    looked_at = [json.loads(line)["photo"] for line in journal.read_text().splitlines()]
    assert looked_at == [name for name in photos if name not in ("p/0.png", "p/1.png")]


def test_points_are_those_of_the_upright_photo(photos, tmp_path):
    with Image.open(photos["p/4.png"]) as upright:
        exif = Image.Exif()
        exif[0x0112] = 6  # as phones write it: to be turned by 90 degrees clockwise
        upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "lying.png", exif=exif)
    files = {"upright": photos["p/4.png"], "lying": tmp_path / "lying.png"}
    upright, lying = detect_faces(files, {}, None).values()
    assert (lying.size, lying.faces) == (upright.size, upright.faces)


def test_nothing_is_known_where_there_is_no_file(tmp_path):
    assert read_detections(tmp_path / "none.jsonl") == {}


def test_photos_that_cannot_be_read_are_named_together_and_the_others_kept(photos, tmp_path):
    photos["p/2.png"].write_bytes(b"no image")
    photos["p/7.png"].write_bytes(photos["p/7.png"].read_bytes()[:500])
    with pytest.raises(InputError, match=r"\A[^\n]*2.png is not an image[^\n]* \(2 such photos in [^\n]*txt\)\Z"):
        detect_faces(photos, {}, tmp_path / "d.jsonl")
    bad = (tmp_path / "unreadable.txt").read_text().splitlines()
    assert [line.split(" ")[0] for line in bad] == [str(photos["p/2.png"]), str(photos["p/7.png"])]
    assert len(read_detections(tmp_path / "d.jsonl")) == 8


def test_where_no_photo_can_be_read_nothing_is_written(photos, tmp_path):
    for file in photos.values():
        file.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"\A[^\n]*0.png is not an image[^\n]* \(10 of 10 photos cannot be used\)\Z"):
        detect_faces(photos, {}, tmp_path / "d.jsonl")
    assert not (tmp_path / "unreadable.txt").exists()
