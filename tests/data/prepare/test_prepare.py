import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lossbench.data.pairs import read_pairs
from lossbench.data.prepare.align import landmark_matrix, template, transform
from lossbench.data.prepare.celeba import read_celeba
from lossbench.data.prepare.collection import read_folder
from lossbench.data.prepare.options import CropOptions, SplitOptions
from lossbench.data.prepare.prepare import prepare
from lossbench.data.prepare.target import work_folder
from lossbench.data.tree import read_tree
from lossbench.errors import InputError

SPLIT = SplitOptions(identities=6, min_images=4, query_identities=3, distractor_identities=3)
CROP = CropOptions(size=48)
PEOPLE = {f"p{i:02d}": 6 for i in range(12)}


def bytes_of(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}


def test_celeba_becomes_a_tree_that_a_run_can_read(celeba_root, tmp_path):
    made = prepare(read_celeba(celeba_root), tmp_path / "out", SPLIT, CROP)
    faces = read_tree(tmp_path / "out")
    assert made.people == {"train": 6, "val": 6, "test": 6, "query": 3, "distractors": 3}
    assert sum(made.images.values()) == len(faces.files) == 72
    closed, query, distractors = (
        {p.name for p in (tmp_path / "out" / part).iterdir()} for part in ("train", "query", "distractors")
    )
    assert not closed & query
    assert not closed & distractors
    assert not query & distractors
    assert (tmp_path / "out" / "absent.txt").read_text() == "000073.jpg\n000074.jpg\n"
    for file in faces.files:
        with Image.open(file) as image:
            assert image.size == (48, 48)


def test_split_json_says_what_is_there(celeba_root, tmp_path):
    prepare(read_celeba(celeba_root), tmp_path / "out", SPLIT, CROP)
    found = json.loads((tmp_path / "out" / "split.json").read_text())
    assert {e["path"] for e in found["files"]} == {
        str(f.relative_to(tmp_path / "out")) for f in (tmp_path / "out").rglob("*.jpg")
    }
    people = dict(line.split() for line in (celeba_root / "identity_CelebA.txt").read_text().splitlines())
    for entry in found["files"]:
        assert entry["sha256"] == hashlib.sha256((tmp_path / "out" / entry["path"]).read_bytes()).hexdigest()
        assert entry["path"].split("/")[:2] == [entry["split"], entry["identity"]]
        assert int(people[Path(entry["source"]).name]) == int(entry["identity"])
        assert len(entry["landmarks"]) == 10
    assert found["parameters"]["identities"] == 6
    assert found["parameters"]["seed"] == 0


def test_eyes_lie_on_the_template(celeba_root, tmp_path):
    collection = read_celeba(celeba_root)
    made = prepare(collection, tmp_path / "out", SPLIT, CropOptions(112))
    distances = []
    for photo in collection.photos:
        moved = transform(landmark_matrix(photo.landmarks, 112, "arcface"), np.reshape(photo.landmarks, (5, 2)) + 0.5)
        distances += list(np.hypot(*(moved - template(112))[:2].T))
    assert made.eye_error == pytest.approx(np.mean(distances), abs=1e-3)
    assert made.eye_error < 3


def test_the_same_command_gives_the_same_bytes_and_another_seed_others(celeba_root, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        options = SplitOptions(6, 4, 3, 3, seed=seed)
        prepare(read_celeba(celeba_root), tmp_path / name, options, CROP)
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
    assert set(bytes_of(tmp_path / "a")) != set(bytes_of(tmp_path / "c"))


def test_a_second_time_does_nothing_and_other_options_are_refused(celeba_root, tmp_path):
    collection = read_celeba(celeba_root)
    first = prepare(collection, tmp_path / "out", SPLIT, CROP)
    before = bytes_of(tmp_path / "out")
    again = prepare(collection, tmp_path / "out", SPLIT, CROP)
    assert (first.new, again.new) == (True, False)
    assert (again.images, again.people) == (first.images, first.people)
    with pytest.raises(InputError, match="other data or options"):
        prepare(collection, tmp_path / "out", SPLIT, CropOptions(64))
    assert bytes_of(tmp_path / "out") == before


def test_an_interruption_leaves_no_tree_and_is_resumed(face_tree, tmp_path):
    root = face_tree(PEOPLE)
    damaged = root / "p11" / "005.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[:100] + bytes(len(whole) - 100))
    work = tmp_path / ".out.preparing"
    with pytest.raises(
        InputError,
        match=rf"005\.png cannot be read as an image.*71 finished crops wait in {work}: run the same command",
    ):
        prepare(read_folder(root), tmp_path / "out", SPLIT, CROP)
    assert not (tmp_path / "out").exists()
    waiting = {f.stat().st_mtime_ns for f in work.glob("crops/*/*.jpg")}
    damaged.write_bytes(whole)
    made = prepare(read_folder(root), tmp_path / "out", SPLIT, CROP)
    assert not work.exists()
    again = {f.stat().st_mtime_ns for f in made.folder.rglob("*.jpg")} - waiting
    assert len(again) == 1
    prepare(read_folder(root), tmp_path / "fresh", SPLIT, CROP)
    assert bytes_of(made.folder) == bytes_of(tmp_path / "fresh")


def interrupted(root, out, monkeypatch):
    """Stop a preparation when all crops are in their places."""
    monkeypatch.setattr(
        "lossbench.data.prepare.prepare.write_manifest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)
    )
    with pytest.raises(KeyboardInterrupt):
        prepare(read_folder(root), out, SPLIT, CROP)
    monkeypatch.undo()
    return {f.stat().st_mtime_ns for f in work_folder(out).glob("tree/*/*/*.jpg")}


def test_all_bad_photos_are_found_at_once_and_may_be_removed(face_tree, tmp_path):
    root = face_tree(PEOPLE | {"p03": 7})
    bad = [root / "p03" / "006.png", root / "p07" / "002.png"]
    for file in bad:
        file.write_bytes(b"no image")
    with pytest.raises(InputError, match=r"006\.png is not an image .*\(2 such photos in .*unreadable\.txt\); 71 fin"):
        prepare(read_folder(root), tmp_path / "out", SPLIT, CROP)
    lines = (work_folder(tmp_path / "out") / "crops" / "unreadable.txt").read_text().splitlines()
    assert [str(file) in line for file, line in zip(bad, lines, strict=True)] == [True, True]
    waiting = {f.stat().st_mtime_ns for f in work_folder(tmp_path / "out").glob("crops/*/*.jpg")}
    for file in bad:
        file.unlink()
    made = prepare(read_folder(root), tmp_path / "out", SPLIT, CROP)
    assert {f.stat().st_mtime_ns for f in made.folder.rglob("*.jpg")} == waiting


def test_where_no_photo_can_be_read_nothing_is_left(face_tree, tmp_path):
    root = face_tree(PEOPLE)
    for file in root.rglob("*.png"):
        file.write_bytes(b"no image")
    with pytest.raises(InputError, match="not an image") as raised:
        prepare(read_folder(root), tmp_path / "out", SPLIT, CROP)
    assert "wait" not in str(raised.value)
    assert str(raised.value).endswith("(none of the 72 photos can be used)"), "it names no list, as none is kept"
    assert sorted(f.name for f in tmp_path.iterdir()) == ["faces", "faces.csv"]


def test_a_photo_that_changed_while_it_was_interrupted_is_made_anew(face_tree, tmp_path, monkeypatch):
    root = face_tree(PEOPLE)
    waiting = interrupted(root, tmp_path / "out", monkeypatch)
    assert len(waiting) == 72
    one, two = root / "p00" / "000.png", root / "p01" / "001.png"
    one.write_bytes(two.read_bytes()[: one.stat().st_size].ljust(one.stat().st_size, b"\0"))  # of equal size
    os.utime(one, ns=(1, 1))
    made = prepare(read_folder(root), tmp_path / "out", SPLIT, CROP)
    assert len({f.stat().st_mtime_ns for f in made.folder.rglob("*.jpg")} - waiting) == 1
    prepare(read_folder(root), tmp_path / "fresh", SPLIT, CROP)
    assert bytes_of(made.folder) == bytes_of(tmp_path / "fresh")


def test_a_photo_that_changed_afterwards_is_noticed(face_tree, tmp_path):
    root = face_tree(PEOPLE)
    prepare(read_folder(root), tmp_path / "out", SPLIT, CROP)
    photo = root / "p00" / "000.png"
    photo.write_bytes(photo.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="prepared with other data or options"):
        prepare(read_folder(root), tmp_path / "out", SPLIT, CROP)


def test_stopped_between_renames_is_resumed(face_tree, tmp_path, monkeypatch):
    root = face_tree(PEOPLE)
    assert interrupted(root, tmp_path / "out", monkeypatch)
    assert not (tmp_path / "out").exists()
    prepare(read_folder(root), tmp_path / "out", SPLIT, CROP)
    prepare(read_folder(root), tmp_path / "fresh", SPLIT, CROP)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")


def test_a_target_of_an_endless_name_is_one_line(face_tree, tmp_path):
    with pytest.raises(InputError, match="cannot be written"):
        prepare(read_folder(face_tree(PEOPLE)), tmp_path / ("n" * 300), SPLIT, CROP)


def test_landmark_csv_aligns_and_lfw_takes_the_middle(face_tree, tmp_path):
    root = face_tree(PEOPLE)
    aligned = prepare(read_folder(root, tmp_path / "faces.csv"), tmp_path / "aligned", SPLIT, CROP)
    assert aligned.eye_error < 1
    assert prepare(read_folder(root, kind="lfw"), tmp_path / "lfw", SPLIT, CROP).eye_error is None


def test_pairs_of_query_people_come_with_the_tree(face_tree, tmp_path):
    prepare(read_folder(face_tree(PEOPLE)), tmp_path / "out", SPLIT, CROP)
    pairs = read_pairs(tmp_path / "out" / "pairs.txt", tmp_path / "out")
    assert {file.parts[-3] for file in pairs.files} == {"query"}
    assert set(pairs.folds) == set(range(10))


def test_a_full_disk_is_one_line_and_leaves_no_tree(face_tree, tmp_path, monkeypatch):
    root, calls = face_tree(PEOPLE), []

    def full(path, data):
        calls.append(path)
        if len(calls) > 20:
            raise OSError(28, "No space left on device")
        path.write_bytes(data)

    monkeypatch.setattr("lossbench.data.prepare.crops.write_bytes", full)
    with pytest.raises(InputError, match=r"No space left on device.*make room"):
        prepare(read_folder(root), tmp_path / "out", SPLIT, CROP)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["train", "train/p00"])
@pytest.mark.parametrize("kind", ["link", "name"])
def test_a_run_refuses_what_prepare_refuses(face_tree, tmp_path, place, kind):
    prepare(read_folder(face_tree(PEOPLE)), tmp_path / "out", SPLIT, CROP)
    person = next((tmp_path / "out" / "train").iterdir()).name
    folder = tmp_path / "out" / place.replace("p00", person)
    if kind == "link":
        (folder / "loop.jpg").symlink_to("loop.jpg")
    else:
        (folder / "a\nb.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="in a circle" if kind == "link" else "line break") as raised:
        read_tree(tmp_path / "out")
    assert "\n" not in str(raised.value)


def test_people_with_too_few_images_are_counted(face_tree, tmp_path):
    prepare(read_folder(face_tree(PEOPLE | {"few": 2, "less": 1})), tmp_path / "out", SPLIT, CROP)
    (note,) = json.loads((tmp_path / "out" / "split.json").read_text())["notes"]
    least = SPLIT.min_images
    assert note == f"2 of 14 people have fewer than {least} images (--min-images) and are left out: few, less"
