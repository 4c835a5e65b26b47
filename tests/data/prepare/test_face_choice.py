"""Which face is a photo's, and what is left out: rules on boxes and points, for which no detector is needed."""

from pathlib import Path

import numpy as np
import pytest
from support import scene

from lossbench.data.prepare.detection import Found
from lossbench.data.prepare.face_choice import LEFT_OUT, choose_face, face_in, turned
from lossbench.data.prepare.mtcnn import Face
from lossbench.data.prepare.options import DetectOptions
from lossbench.errors import InputError

SHAPE = np.array([[30, 46], [66, 46], [48, 66], [34, 86], [62, 86]]) / 100  # of points in a box


def face(x, y, height, *, confidence=0.999, nose=0.0):
    """A frontal face; `nose` shifts it by eye distances."""
    width = 0.96 * height
    points = SHAPE * [height, height] + [x, y]
    points[2, 0] += nose * (points[1, 0] - points[0, 0])
    return Face((x, y, width, height), confidence, tuple(float(v) for v in points.ravel()))


def choose(*faces, size=(400, 300), **options):
    return choose_face(Path("a.jpg"), Found("", size, faces), DetectOptions(**options))


def test_the_largest_is_used_or_the_one_nearest_the_centre():
    large, middle, small = face(5, 5, 120), face(160, 110, 80), face(330, 220, 60)
    found = choose(middle, large, small)
    assert (found.face, found.doubt, found.remark, set(found.others)) == (large, "several", "3 faces", {middle, small})
    assert found.landmarks == large.points
    assert choose(large, small, middle, face="centre").face == middle


def test_faces_that_are_too_small_do_not_count_unless_there_is_no_other():
    large, tiny = face(5, 5, 120), face(190, 140, 40)
    found = choose(tiny, large, face="centre")
    assert (found.face, found.doubt, found.others) == (large, "", ())
    only = choose(tiny, face(0, 0, 30))
    assert (only.face, only.doubt, only.remark, only.landmarks) == (tiny, "too small", "too small: 40 px", None)
    assert choose(tiny, min_face=40).landmarks == tiny.points


def test_no_face_a_turned_one_and_one_beyond_the_border_are_left_out():
    assert (choose().face, choose().doubt, choose().landmarks) == (None, "no face", None)
    aside = choose(face(100, 100, 100, nose=0.51))
    assert (aside.doubt, aside.remark, aside.landmarks) == ("too turned", "too turned: 0.51", None)
    assert choose(face(100, 100, 100, nose=0.49)).landmarks
    assert choose(face(100, 100, 100, nose=0.6), max_turn=0.7).landmarks
    cut = choose(face(-60, 100, 100))
    assert (cut.doubt, cut.landmarks) == ("cut off", None)
    assert {"no face", "too turned", "too small", "cut off"} == set(LEFT_OUT)


def test_a_face_that_is_not_certain_is_used_and_doubtful():
    found = choose(face(100, 100, 100, confidence=0.9))
    assert (found.doubt, found.remark) == ("unsure", "confidence 0.90")
    assert found.landmarks
    assert choose(face(100, 100, 100, confidence=0.95)).doubt == ""


@pytest.mark.parametrize("angle", [0.0, 0.5, -1.2, 3.0])
def test_how_far_a_face_is_turned_does_not_depend_on_how_the_head_is_held_or_on_size(angle):
    spin = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    for nose in (-0.8, 0.0, 0.3):
        points = np.reshape(face(100, 100, 100, nose=nose).points, (5, 2)) @ spin.T * 3 + 7
        assert turned(tuple(points.ravel())) == pytest.approx(abs(nose))


@pytest.mark.extra("align")
def test_the_face_in_a_photo_or_an_error_that_says_why_there_is_none(orl, tmp_path):
    scene((orl.files[0], (90, 30), 2.0)).save(tmp_path / "a.png")
    image, found = face_in(tmp_path / "a.png", DetectOptions())
    assert image.size == (400, 320)
    assert found.landmarks is not None
    scene().save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"\A[^\n]*b.png shows no face to align by \(no face\); give another photo\Z"):
        face_in(tmp_path / "b.png", DetectOptions())
