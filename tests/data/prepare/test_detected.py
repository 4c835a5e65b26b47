"""A collection prepared by detection: what is left out and said, the landmark file and its way back, resumption."""

import csv
import json
from dataclasses import replace

import pytest
from support import write_scenes

from lossbench.data.prepare.collection import Collection, Photo, read_folder, read_landmark_csv
from lossbench.data.prepare.detected import Detected, Detection
from lossbench.data.prepare.detection import Found, read_detections
from lossbench.data.prepare.face_choice import Choice
from lossbench.data.prepare.mtcnn import Face
from lossbench.data.prepare.options import CropOptions, DetectOptions, SplitOptions
from lossbench.data.prepare.prepare import prepare
from lossbench.data.prepare.target import detections, work_folder
from lossbench.errors import InputError

SPLIT = SplitOptions(identities=2, min_images=4, query_identities=2, distractor_identities=2)
CROP = CropOptions(size=48)
needs_extra = pytest.mark.extra("align")
FACE = Face((100, 40, 80.5, 120), 0.9312, (120.25, 80, 160, 80, 140, 110, 125, 130, 155, 130))


@pytest.fixture(scope="module")
def photos(orl, tmp_path_factory):
    return write_scenes(orl, tmp_path_factory.mktemp("scenes") / "photos")


@pytest.fixture(scope="module")
def made(photos, tmp_path_factory):
    """The photos prepared, and what was said."""
    out, notes = tmp_path_factory.mktemp("made") / "out", []
    return prepare(
        read_folder(photos), out, SPLIT, CROP, detection=Detection(DetectOptions(), on_notes=notes.extend)
    ), notes


def bytes_of(root):
    return {f.relative_to(root).as_posix(): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}


def crops_of(root):
    return {name: data for name, data in bytes_of(root).items() if name.count("/") == 2}


def detected(tmp_path, **choices):
    """What was found in these photos of one person, and the collection."""
    photos = {f"p/{name}.jpg": Photo(tmp_path / f"p/{name}.jpg", "p") for name in choices}
    chosen = {f"p/{name}.jpg": choice for name, choice in choices.items()}
    found = {n: Found("", (300, 200), tuple(filter(None, [chosen[n].face]))) for n in photos}
    return Detected(photos, found, chosen), Collection("folder", tmp_path, tuple(photos.values()), notes=("before",))


def test_photos_get_landmarks_and_facts_and_those_without_are_left_out_counted_and_named(tmp_path):
    found, before = detected(
        tmp_path, a=Choice(FACE), b=Choice(None, "no face"), c=Choice(FACE, "too small"), d=Choice(FACE, "unsure")
    )
    after = found.collection(before, Detection(DetectOptions()))
    assert [(photo.path.name, photo.landmarks) for photo in after.photos] == [
        ("a.jpg", FACE.points),
        ("d.jpg", FACE.points),
    ]
    assert after.photos[0].facts == {"faces": "1", "confidence": "0.9312", "box": "100 40 80.5 120"}
    assert after.notes == (
        "before",
        "1 of 4 photos show no face and are left out: p/b.jpg",
        "1 of 4 photos show a face of fewer than 50 pixels (--min-face) and are left out: p/c.jpg",
        "1 of 4 photos show a face that is not certain (confidence below 0.95), which is used: p/d.jpg",
    )
    kept = found.collection(before, Detection(DetectOptions(), keep=True))
    assert [photo.landmarks for photo in kept.photos] == [FACE.points, None, None, FACE.points]
    assert "1 of 4 photos show no face and are cropped about the centre: p/b.jpg" in kept.notes


def test_the_landmark_file_is_read_by_the_reader_of_landmark_files(tmp_path):
    found, _ = detected(
        tmp_path, a=Choice(FACE), b=Choice(None, "no face", "no, face"), c=Choice(FACE, "too small", "x")
    )
    (tmp_path / "l.csv").write_text(found.csv(), encoding="utf-8")
    assert read_landmark_csv(tmp_path / "l.csv") == {"p/a.jpg": FACE.points}
    rows = list(csv.DictReader((tmp_path / "l.csv").open()))
    assert [(row["path"], row["faces"], row["remark"]) for row in rows] == [
        ("p/a.jpg", "1", ""), ("p/b.jpg", "0", "no, face"), ("p/c.jpg", "1", "x")
    ]  # fmt: skip
    assert (rows[0]["confidence"], rows[0]["box_width"], rows[2]["box_height"], rows[1]["box_x"]) == (
        "0.9312",
        "80.5",
        "120",
        "",
    )
    assert (rows[2]["left_eye_x"], rows[0]["left_eye_x"]) == ("", "120.25")


def test_where_no_face_is_used_one_line_says_why(tmp_path):
    found, before = detected(tmp_path, a=Choice(None, "no face"), b=Choice(None, "no face"))
    with pytest.raises(
        InputError, match=r"\A--detect finds no face in the 2 photos of [^\n]*; give photos of people, or"
    ):
        found.collection(before, Detection(DetectOptions()))
    kept = found.collection(before, Detection(DetectOptions(), keep=True))
    assert [photo.landmarks for photo in kept.photos] == [None, None]
    assert kept.notes[-1] == "2 of 2 photos show no face and are cropped about the centre: p/a.jpg, p/b.jpg"
    found, before = detected(tmp_path, a=Choice(None, "no face"), b=Choice(FACE, "too turned"))
    with pytest.raises(InputError, match=r"\A[^\n]*: 1 no face and 1 too turned \(--max-turn 0.5\)\Z"):
        found.collection(before, Detection(DetectOptions()))


@needs_extra
def test_a_set_is_prepared_by_detection(photos, made):
    found, notes = made
    root = found.folder
    manifest = json.loads((root / "split.json").read_text())
    assert manifest["parameters"]["detect"] == {"face": "largest", "min_face": 50, "max_turn": 0.5}
    assert notes == [
        "1 of 30 photos show no face and are left out: p0/0.png",
        "1 of 30 photos show several faces, of which the largest is used: p0/1.png",
    ]
    assert manifest["notes"] == notes
    assert sum(found.images.values()) == len(crops_of(root)) == 29
    assert found.usable["p0"] == 4
    marks = read_landmark_csv(root / "landmarks.csv")
    assert all(marks[entry["source"]] == tuple(entry["landmarks"]) for entry in manifest["files"])
    facts = {entry["source"]: entry["facts"] for entry in manifest["files"]}
    assert (facts["p0/1.png"]["faces"], facts["p0/2.png"]["faces"]) == ("2", "1")
    assert float(facts["p0/2.png"]["confidence"]) > 0.99
    assert found.eye_error < 2.5 * 48 / 112, "about as correct landmarks"
    assert found.sheet == root / "doubtful.jpg"
    assert list(read_detections(root / "detections.jsonl")) == [
        f"p{person}/{i}.png" for person in range(6) for i in range(5)
    ]
    assert not work_folder(root).exists()


@needs_extra
def test_the_same_command_finds_its_work_done_and_another_is_refused(photos, made):
    root, before = made[0].folder, bytes_of(made[0].folder)
    again = prepare(read_folder(photos), root, SPLIT, CROP, detection=Detection(DetectOptions()))
    assert not again.new
    assert again.images == made[0].images
    for options in (DetectOptions(min_face=60), None):
        other = Detection(options) if options else None
        with pytest.raises(InputError, match="was prepared with other data or options"):
            prepare(read_folder(photos), root, SPLIT, CROP, detection=other)
    assert bytes_of(root) == before


@needs_extra
def test_landmarks_corrected_by_hand_and_given_back_change_that_crop_alone(photos, made, tmp_path):
    rows = (made[0].folder / "landmarks.csv").read_text().splitlines()
    (tmp_path / "same.csv").write_text("\n".join(rows))
    same = prepare(read_folder(photos, tmp_path / "same.csv"), tmp_path / "same", SPLIT, CROP)
    assert crops_of(same.folder) == crops_of(made[0].folder)
    cells = next(csv.reader([rows[9]]))
    moved = [cells[0], *(str(float(cell) + 4) for cell in cells[1:11]), *cells[11:]]
    (tmp_path / "moved.csv").write_text("\n".join([*rows[:9], ",".join(moved), *rows[10:]]))
    changed = crops_of(prepare(read_folder(photos, tmp_path / "moved.csv"), tmp_path / "moved", SPLIT, CROP).folder)
    different = [name for name, data in crops_of(made[0].folder).items() if changed[name] != data]
    assert [name.split("/", 1)[1] for name in different] == [cells[0].replace(".png", ".jpg")]


@needs_extra
@pytest.mark.parametrize("stopped_at", [3, 20])
def test_an_interrupted_detection_continues_to_the_same_bytes(photos, made, tmp_path, stopped_at):
    out, seen = tmp_path / "out", []

    def stop(done, total):
        if done == stopped_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(read_folder(photos), out, SPLIT, CROP, detection=Detection(DetectOptions(), on_progress=stop))
    assert not out.exists()
    kept = detections(out).read_bytes()
    assert kept.count(b"\n") == stopped_at
    detections(out).write_bytes(kept + b'{"photo": "p0')  # torn by a power cut
    prepare(
        read_folder(photos), out, SPLIT, CROP,
        detection=Detection(DetectOptions(), on_progress=lambda *_: seen.append(detections(out).read_bytes())),
    )  # fmt: skip
    assert seen[stopped_at - 1].count(b"\n") == stopped_at, "what is known is not written again"
    assert bytes_of(out) == bytes_of(made[0].folder)
    assert not work_folder(out).exists()


@needs_extra
def test_too_few_people_with_faces_is_said_and_what_was_found_is_kept(photos, tmp_path):
    out = tmp_path / "out"
    strict = replace(SPLIT, min_images=5)
    with pytest.raises(InputError, match=r"5 of 6 people have 5 images or more[^\n]*; the faces found so far wait in "):
        prepare(read_folder(photos), out, strict, CROP, detection=Detection(DetectOptions()))
    assert detections(out).read_bytes().count(b"\n") == 30


@needs_extra
def test_without_any_face_nothing_is_left_behind(orl, tmp_path):
    root = write_scenes(orl, tmp_path / "photos", people=6, images=4)
    for file in root.rglob("*.png"):
        file.write_bytes((root / "p0" / "0.png").read_bytes())
    with pytest.raises(InputError, match=r"\A--detect finds no face in the 24 photos of [^\n]*\Z"):
        prepare(read_folder(root), tmp_path / "out", SPLIT, CROP, detection=Detection(DetectOptions()))
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


@needs_extra
def test_photos_without_a_face_are_kept_and_cropped_about_the_centre(photos, made, tmp_path):
    kept = prepare(read_folder(photos), tmp_path / "kept", SPLIT, CROP, detection=Detection(DetectOptions(), keep=True))
    assert sum(kept.images.values()) == 30
    marks = kept.folder / "landmarks.csv"
    back = prepare(read_folder(photos, marks, keep_unmarked=True), tmp_path / "back", SPLIT, CROP)
    assert crops_of(back.folder) == crops_of(kept.folder)
