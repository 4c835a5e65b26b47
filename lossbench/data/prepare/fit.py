"""Whether landmarks belong to their photos: in pixels, inside the image, and in the template's order."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lossbench.data.prepare.align import Points, landmark_matrix, template, transform
from lossbench.data.prepare.collection import Collection, Landmarks, Photo
from lossbench.errors import InputError
from lossbench.utils.text import shown

CORRECT = 2.0  # px of a 112 px crop: CelebA's own landmarks put the eyes 1.7 px from the template on average
_FAR = 3.0  # the median of normalised coordinates is 3.9 px
_LOST = (
    16.0  # mean of all five points; swapped sides or axes give 19 to 21 px, a full profile about 13, CelebA 9 at most
)
_SPAN = 5.0  # px from the first eye to the furthest corner of the mouth: no face is that small
_SAMPLE = 2000
_ORDER = "x and y of left eye, right eye (as the viewer sees them), nose, left and right corner of the mouth"


def refuse_misfit(collection: Collection) -> None:
    """Refuse landmarks that as a whole cannot be those of faces, before any crop is made.

    Raises:
        InputError: half of the photos have landmarks that span a few pixels or whose eyes miss the template.
    """
    marked = [(photo, photo.landmarks) for photo in collection.photos if photo.landmarks is not None]
    marked = marked[:: -(-len(marked) // _SAMPLE) or 1]
    if not marked:
        return
    spans = np.array([_span(points) for _, points in marked])
    if np.median(spans) < _SPAN:
        photo, points = marked[int(spans.argmin())]
        raise InputError(f"{_of(photo)} {_too_small(points)} ({_share(spans < _SPAN)})")
    eyes = np.array([_distances(points)[:2].mean() for _, points in marked if _span(points) >= _SPAN])
    if np.median(eyes) > _FAR:
        names = ", ".join(shown(_name(photo, collection.root)) for photo, _ in marked[:3])
        raise InputError(
            f"the landmarks do not fit faces: the eyes lie {np.median(eyes):.1f} px from the template, half of them "
            f"further, where correct ones lie below {CORRECT:g} ({_share(eyes > CORRECT)}, such as {names}); give "
            f"pixels of these very images: {_ORDER}"
        )


def refuse_odd(photo: Photo, landmarks: Landmarks, size: tuple[int, int]) -> None:
    """Refuse landmarks that cannot be those of a face on this photo.

    Args:
        photo: whose landmarks they are.
        landmarks: in pixels of the upright image.
        size: width and height of that image.

    Raises:
        InputError: they span a few pixels, lie outside of the image, or do not resemble the template.
    """
    points = np.reshape(landmarks, (5, 2))
    span = _span(landmarks)
    if span < _SPAN:
        raise InputError(f"{_of(photo)} {_too_small(landmarks)}")
    beyond = np.maximum(-points, points - np.array(size)).max(axis=1)
    if beyond.max() > span / 4:  # a face that the border cuts may have a corner of the mouth beyond it
        x, y = points[int(beyond.argmax())]
        raise InputError(
            f"{_of(photo)} reach ({x:g}, {y:g}), outside of the image of {size[0]}x{size[1]} pixels; give the "
            "landmarks of this very image, not of one before it was cropped or resized"
        )
    if (error := float(_distances(landmarks).mean())) > _LOST:
        raise InputError(f"{_of(photo)} lie {error:.0f} px from the template where it fits best; give {_ORDER}")


def _of(photo: Photo) -> str:
    return f"the landmarks of {shown(photo.path)}"


def _name(photo: Photo, root: Path) -> str:
    return photo.path.relative_to(root).as_posix()


def _span(landmarks: Sequence[float]) -> float:
    return float(np.ptp(np.reshape(landmarks, (5, 2)), axis=0).max())


def _distances(landmarks: Sequence[float]) -> Points:
    """Return the distances [5] from the template, in pixels of ArcFace's crop of 112 pixels."""
    points = np.reshape(landmarks, (5, 2)) + 0.5
    moved = transform(landmark_matrix(landmarks, 112, "arcface"), points)
    return np.asarray(np.linalg.norm(moved - template(112), axis=1))


def _too_small(landmarks: Sequence[float]) -> str:
    cure = "coordinates are in pixels, and no face is that small"
    if min(landmarks) >= 0 and max(landmarks) <= 1.5:
        cure = "they look like shares of the image: multiply x by its width and y by its height"
    return f"span {_span(landmarks):.2g} px; {cure}"


def _share(wrong: npt.NDArray[np.bool_]) -> str:
    return f"{int(np.sum(wrong)):,} of {len(wrong):,} photos"
