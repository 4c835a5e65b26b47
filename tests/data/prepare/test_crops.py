"""Crops on disk: what is on them, and when one that is there is taken for another try."""

import hashlib

import numpy as np
import pytest
from PIL import Image
from support import draw_face, small_disk

from lossbench.data.prepare.align import box_matrix, landmark_matrix, template, warp
from lossbench.data.prepare.collection import LFW_BOX, Collection, Photo
from lossbench.data.prepare.crops import eye_error, make_crops
from lossbench.data.prepare.duplicates import thumbnail
from lossbench.data.prepare.options import CropOptions
from lossbench.errors import InputError

OPTIONS = CropOptions(size=48)


@pytest.fixture
def faces(tmp_path):
    """Four photos with landmarks of two people."""
    photos = []
    for seed in range(4):
        image, points = draw_face(seed)
        path = tmp_path / f"{seed}.png"
        image.save(path)
        photos.append(Photo(path, f"p{seed % 2}", tuple(points)))
    (tmp_path / "crops").mkdir()
    return photos


def made(photos, tmp_path, options=OPTIONS, told=None, **collection):
    """Return the crops of photos; the list `told` takes what the progress is told."""
    return make_crops(
        Collection("folder", tmp_path, tuple(photos), **collection),
        photos,
        [f"{photo.person}/{photo.path.stem}.jpg" for photo in photos],
        tmp_path / "crops",
        options,
        lambda *counts: told.append(counts) if told is not None else None,
    )


def written(crops):
    """Return when each crop was written."""
    return [crop.file.stat().st_mtime_ns for crop in crops]


def test_a_crop_is_the_warped_photo_and_its_record_describes_the_file(faces, tmp_path):
    crops = made(faces, tmp_path)
    for photo, crop in zip(faces, crops, strict=True):
        assert crop.file.parent == tmp_path / "crops" / photo.person
        assert crop.sha256 == hashlib.sha256(crop.file.read_bytes()).hexdigest()
        assert crop.source_sha256 == hashlib.sha256(photo.path.read_bytes()).hexdigest()
        with Image.open(photo.path) as image, Image.open(crop.file) as found:
            assert (found.format, found.size) == ("JPEG", (48, 48))
            np.testing.assert_array_equal(crop.thumbnail, thumbnail(found))
            expected = warp(image.convert("RGB"), landmark_matrix(photo.landmarks, 48, "arcface"), 48)
            assert np.abs(np.asarray(found).astype(float) - np.asarray(expected)).mean() < 2


@pytest.mark.parametrize("size", [(178, 218), (300, 120)])
def test_without_landmarks_the_crop_is_the_box_about_the_centre(tmp_path, size):
    (tmp_path / "crops").mkdir()
    image, _ = draw_face(5, size)
    image.save(tmp_path / "a.png")
    photo = Photo(tmp_path / "a.png", "p0")
    (crop,) = made([photo], tmp_path, face_box=LFW_BOX)
    shorter = min(size)
    centre = size[0] / 2 + (LFW_BOX[0] - 0.5) * shorter, size[1] / 2 + (LFW_BOX[1] - 0.5) * shorter
    expected = warp(image, box_matrix((*centre, LFW_BOX[2] * shorter), 48, "arcface"), 48)
    with Image.open(crop.file) as found:
        assert np.abs(np.asarray(found).astype(float) - np.asarray(expected)).mean() < 2
    assert crop.eye_error is None


def test_the_eye_error_is_the_mean_distance_of_the_eyes_from_the_template(faces, tmp_path):
    for photo, crop in zip(faces, made(faces, tmp_path), strict=True):
        (a, b, x), (c, d, y) = landmark_matrix(photo.landmarks, 48, "arcface").tolist()
        eyes = [(photo.landmarks[i] + 0.5, photo.landmarks[i + 1] + 0.5) for i in (0, 2)]
        moved = [(a * u + b * v + x, c * u + d * v + y) for u, v in eyes]
        distances = [np.hypot(*(np.array(point) - goal)) for point, goal in zip(moved, template(48), strict=False)]
        assert crop.eye_error == pytest.approx(np.mean(distances))
    exact = tuple((template(48) - 0.5).ravel())
    assert eye_error(landmark_matrix(exact, 48, "arcface"), exact, OPTIONS) == pytest.approx(0, abs=1e-9)


def test_a_second_try_takes_the_crops_that_are_there_and_makes_empty_ones_again(faces, tmp_path):
    first = made(faces, tmp_path)
    before = written(first)
    content = first[2].file.read_bytes()
    first[2].file.write_bytes(b"")  # as after a power cut
    again = made(faces, tmp_path)
    assert [a == b for a, b in zip(written(again), before, strict=True)] == [True, True, False, True]
    assert first[2].file.read_bytes() == content
    assert [(crop.file, crop.sha256) for crop in again] == [(crop.file, crop.sha256) for crop in first]


@pytest.mark.parametrize("change", ["content", "landmarks", "size", "crop", "box"])
def test_what_a_crop_is_made_from_decides_whether_it_is_taken(faces, tmp_path, change):
    first = made(faces, tmp_path)
    photo, options, more = faces[0], OPTIONS, {}
    if change == "content":
        faces[1].path.rename(photo.path)
    if change == "landmarks":
        photo = Photo(photo.path, photo.person, (*photo.landmarks[:-1], photo.landmarks[-1] + 1))
    if change in ("size", "crop"):
        options = CropOptions(size=64) if change == "size" else CropOptions(size=48, crop="tight")
    if change == "box":
        more = {"face_box": LFW_BOX}
    (crop,) = made([photo], tmp_path, options, **more)
    assert crop.file != first[0].file
    assert first[0].file.exists()


def test_all_photos_that_cannot_be_used_are_listed_and_stop_no_other(faces, tmp_path):
    faces[0].path.write_bytes(b"no image")
    faces[2] = Photo(faces[2].path, "p0", (7.0,) * 10)
    told = []
    with pytest.raises(InputError, match=r"\A[^\n]*0\.png is not an image[^\n]*\(2 such photos in [^\n]*\)\Z"):
        made(faces, tmp_path, told=told)
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    one, other = (tmp_path / "crops" / "unreadable.txt").read_text().splitlines()
    assert "0.png is not an image" in one
    assert other.endswith("2.png: all landmarks coincide; fix its row in the landmark file")
    assert len(list((tmp_path / "crops" / "p1").iterdir())) == 2
    assert list((tmp_path / "crops" / "p0").iterdir()) == []


def test_a_full_disk_is_an_os_error_and_leaves_no_half_crop(faces, tmp_path):
    with small_disk(500), pytest.raises(OSError, match="File too large"):
        made(faces, tmp_path)
    assert [path for path in (tmp_path / "crops").rglob("*") if path.is_file()] == []
