"""Which of the faces found in a photo is used, and why none is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from lossbench.data.images.decode import decode, read_bytes
from lossbench.data.prepare.collection import Landmarks, Photo
from lossbench.data.prepare.detection import Found
from lossbench.data.prepare.fit import refuse_odd
from lossbench.data.prepare.mtcnn import Face, detector, refuse_absent
from lossbench.data.prepare.options import DetectOptions
from lossbench.errors import InputError
from lossbench.utils.text import shown

UNSURE = 0.95  # confidence below which a face is worth a look: 3 in 1,000 of CelebA's
NO_FACE, SMALL, TURNED, ODD, SEVERAL, LOW = "no face", "too small", "too turned", "cut off", "several", "unsure"
LEFT_OUT = (NO_FACE, SMALL, TURNED, ODD)


@dataclass(frozen=True)
class Choice:
    """The face of a photo, if there is any; what is doubtful about it, one of the words above or none; in a few words.

    A face of `LEFT_OUT` is not used. `others` are the further faces that could have been.
    """

    face: Face | None
    doubt: str = ""
    remark: str = ""
    others: tuple[Face, ...] = ()

    @property
    def landmarks(self) -> Landmarks | None:
        """The five points to align by, if the face is used."""
        return self.face.points if self.face is not None and self.doubt not in LEFT_OUT else None


def choose_face(file: Path, found: Found, options: DetectOptions) -> Choice:
    """Return the face of a photo: the largest, or the one nearest the centre, of those that are not too small.

    Args:
        file: the photo.
        found: the faces in it.
        options: which face, and what is left out.
    """
    if not found.faces:
        return Choice(None, NO_FACE, "no face")
    eligible = [face for face in found.faces if face.box[3] >= options.min_face]
    if not eligible:
        face = max(found.faces, key=_area)
        return Choice(face, SMALL, f"too small: {face.box[3]:.0f} px")
    centre = np.array(found.size) / 2
    face = max(eligible, key=_area) if options.face == "largest" else min(eligible, key=lambda f: _from(centre, f))
    if (turn := turned(face.points)) > options.max_turn:
        return Choice(face, TURNED, f"too turned: {turn:.2f}")
    try:
        refuse_odd(Photo(file, ""), face.points, found.size)
    except InputError:
        return Choice(face, ODD, "cut off, or no face's points")
    if len(eligible) > 1:
        others = tuple(one for one in eligible if one is not face)
        return Choice(face, SEVERAL, f"{len(eligible)} faces", others)
    if face.confidence < UNSURE:
        return Choice(face, LOW, f"confidence {face.confidence:.2f}")
    return Choice(face)


def face_in(file: Path, options: DetectOptions) -> tuple[Image.Image, Choice]:
    """Return a photo, decoded, and its face.

    Raises:
        InputError: the extra is not installed, the photo cannot be read, or shows no face to use.
    """
    refuse_absent()
    image = decode(read_bytes(file), file)
    choice = choose_face(file, Found("", image.size, tuple(detector().faces(np.asarray(image)))), options)
    if choice.landmarks is None:
        raise InputError(f"{shown(file)} shows no face to align by ({choice.remark}); give another photo")
    return image, choice


def turned(points: Landmarks) -> float:
    """Return how far the nose is from the middle between the eyes, along their line, in eye distances.

    0 in a frontal face, 0.5 where the nose is right below an eye, more beyond.

    Example:
        >>> turned((10, 10, 30, 10, 25, 22, 12, 34, 28, 34))
        0.25
    """
    left, right, nose = np.reshape(points, (5, 2))[:3]
    line = right - left
    return float(abs((nose - (left + right) / 2) @ line) / max(line @ line, 1e-9))


def _area(face: Face) -> float:
    return face.box[2] * face.box[3]


def _from(centre: np.ndarray[tuple[int, ...], np.dtype[np.float64]], face: Face) -> float:
    x, y, width, height = face.box
    return float(np.hypot(*(np.array([x + width / 2, y + height / 2]) - centre)))
