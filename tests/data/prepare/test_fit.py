"""Landmarks that are not those of a face on the photo are refused, with the photo and the true reason."""

from pathlib import Path

import numpy as np
import pytest
from support import FACE_SIZE, draw_face

from lossbench.data.prepare.collection import Collection, Photo
from lossbench.data.prepare.fit import refuse_misfit, refuse_odd
from lossbench.errors import InputError

ROOT = Path("/photos")
W, H = FACE_SIZE
CORRECT = [tuple(draw_face(seed)[1]) for seed in range(12)]


def collection(change=lambda points: points):
    """Return photos whose landmarks [5, 2] went through `change`."""
    changed = [tuple(float(v) for v in np.ravel(change(np.reshape(p, (5, 2))))) for p in CORRECT]
    return Collection("folder", ROOT, tuple(Photo(ROOT / f"p/{i}.png", "p", p) for i, p in enumerate(changed)))


def refused(found):
    """Return the reasons why single photos are refused."""
    reasons = []
    for photo in found.photos:
        try:
            refuse_odd(photo, photo.landmarks, FACE_SIZE)
        except InputError as error:
            reasons.append(str(error))
    assert not any("\n" in reason for reason in reasons)
    return reasons


def test_correct_landmarks_pass():
    refuse_misfit(collection())
    assert refused(collection()) == []


def test_no_landmarks_pass():
    refuse_misfit(Collection("folder", ROOT, (Photo(ROOT / "p/0.png", "p"),)))


@pytest.mark.parametrize("nose_to_eye", [0.2, 0.6, 1.0])
def test_a_turned_head_passes(nose_to_eye):
    """A half profile brings the eyes and the mouth's corners together; so does a full one, all in a line."""
    width = 1.02 - nose_to_eye
    x = np.array([-19, 19, 19 * nose_to_eye, -16, 16]) * [width, width, 1, width, width] + W / 2
    points = np.stack([x, np.array([-25, -25, -2, 17, 17]) + H / 2], axis=1)
    refuse_odd(Photo(ROOT / "p/0.png", "p"), tuple(points.ravel()), FACE_SIZE)


def test_a_face_that_the_border_cuts_passes():
    points = np.reshape(CORRECT[0], (5, 2))
    cut = points - [points[:, 0].min() + 5, 0]
    refuse_odd(Photo(ROOT / "p/0.png", "p"), tuple(cut.ravel()), FACE_SIZE)


def test_shares_of_the_image_are_refused_as_such():
    shares = collection(lambda p: p / [W, H])
    with pytest.raises(InputError, match=r"\Athe landmarks of /photos/p/\d+.png span 0[^\n]*look like shares [^\n]*\Z"):
        refuse_misfit(shares)
    assert len(refused(shares)) == len(CORRECT)
    assert "look like shares of the image: multiply x by its width" in refused(shares)[0]


@pytest.mark.parametrize("change", [lambda p: p / [W, H] * 100, lambda p: p[[2, 0, 1, 3, 4]], lambda p: p[:, ::-1]])
def test_landmarks_that_do_not_fit_as_a_whole_are_refused(change):
    """Shares in percent, another order, x and y exchanged."""
    with pytest.raises(InputError, match=r"do not fit faces: the eyes lie \d[^\n]*12 of 12 photos, such as p/0.png"):
        refuse_misfit(collection(change))


def test_landmarks_of_another_image_are_outside():
    reasons = refused(collection(lambda p: p * 3 + 40))
    assert len(reasons) == len(CORRECT)
    assert "0.png reach (" in reasons[0]
    assert f"outside of the image of {W}x{H} pixels" in reasons[0]


@pytest.mark.parametrize("change", [lambda p: p[[1, 0, 2, 4, 3]], lambda p: p * [-1, 1] + [W, 0]])
def test_sides_that_are_exchanged_and_mirrored_images_are_refused(change):
    reasons = refused(collection(change))
    assert len(reasons) == len(CORRECT)
    assert "px from the template where it fits best; give x and y of left eye" in reasons[0]


def test_points_that_coincide_are_refused():
    with pytest.raises(InputError, match=r"span 0 px; coordinates are in pixels"):
        refuse_odd(Photo(ROOT / "a.png", "a"), (7.0,) * 10, FACE_SIZE)
    some = collection()
    refuse_misfit(Collection("folder", ROOT, (*some.photos, Photo(ROOT / "a.png", "a", (7.0,) * 10))))
