"""Alignment: five landmarks to ArcFace's template by a similarity, and the square crop around it.

Coordinates are continuous: the centre of pixel i is at i + 0.5. Landmark files and the template count pixels by index,
so half a pixel is added when they are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

Points = npt.NDArray[np.float64]

# Left eye, right eye (as the viewer sees them), nose, left and right corner of the mouth, in pixels of a 112x112 crop:
# Deng et al. 2019 (arXiv:1801.07698), as InsightFace's arcface_dst.
ARCFACE = np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]])


@dataclass(frozen=True)
class Crop:
    """A change of ArcFace's crop: the template enlarged by `zoom`, its mean at height `middle` (0 top, 1 bottom)."""

    zoom: float
    middle: float


_MIDDLE = float((ARCFACE[:, 1].mean() + 0.5) / 112)
CROPS = {
    "arcface": Crop(1.0, _MIDDLE),
    "tight": Crop(1.3, 0.56),  # brows to chin, without hair and background
    "loose": Crop(0.75, 0.58),  # the whole head
}


def template(size: int, crop: str = "arcface") -> Points:
    """Return the target positions (x, y) of the five points [5, 2] in a crop of `size` x `size` pixels."""
    shape = CROPS[crop]
    points = (ARCFACE + 0.5) / 112
    centre = points.mean(axis=0)
    return np.asarray(((points - centre) * shape.zoom + [centre[0], shape.middle]) * size)


def similarity(source: Points, target: Points) -> Points:
    """Return the 2x3 matrix of the rotation, scale and shift that best maps `source` to `target`, both [N, 2].

    Least squares without reflection (Umeyama 1991); in the plane it is one complex division: w = a·z + b.

    Raises:
        ValueError: all source points coincide.
    """
    z, w = source @ [1, 1j], target @ [1, 1j]
    dz, dw = z - z.mean(), w - w.mean()
    spread = np.vdot(dz, dz).real
    if spread < 1e-9:
        raise ValueError("all landmarks coincide")
    a = np.vdot(dz, dw) / spread
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def transform(matrix: Points, points: Points) -> Points:
    """Return `points` [N, 2] transformed by a 2x3 `matrix`."""
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def landmark_matrix(landmarks: Sequence[float], size: int, crop: str) -> Points:
    """Return the matrix from an image to its aligned crop, from ten numbers x1 y1 ... x5 y5 in pixels by index."""
    return similarity(np.reshape(landmarks, (5, 2)) + 0.5, template(size, crop))


def box_matrix(box: tuple[float, float, float], size: int, crop: str) -> Points:
    """Return the matrix from an image to a crop without landmarks: `box` (x, y of the centre, side) is ArcFace's crop.

    tight and loose show less and more about the same centre.
    """
    x, y, side = box
    scale = size * CROPS[crop].zoom / side
    return np.array([[scale, 0, size / 2 - scale * x], [0, scale, size / 2 - scale * y]])


def warp(image: Image.Image, matrix: Points, size: int) -> Image.Image:
    """Return the `size` x `size` crop that `matrix` maps `image` to; black beyond the image's border.

    An image that is reduced is first filtered, since bicubic sampling alone would alias.
    """
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))
    shrink = float(np.hypot(inverse[0, 0], inverse[1, 0]))  # source pixels per pixel of the crop
    if shrink > 1.05:
        corners = transform(inverse[:2], np.array([[0, 0], [size, 0], [0, size], [size, size]], dtype=np.float64))
        low = np.floor(np.maximum(corners.min(axis=0) - 4 * shrink, 0))
        high = np.ceil(np.minimum(corners.max(axis=0) + 4 * shrink, image.size))
        if (high - low).min() >= 1:
            region = np.maximum(np.round((high - low) / shrink), 1).astype(int)
            box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
            image = image.resize((int(region[0]), int(region[1])), Image.Resampling.LANCZOS, box=box)
            factor = region / (high - low)
            inverse[:2] = (inverse[:2] - np.array([[0, 0, low[0]], [0, 0, low[1]]])) * factor[:, None]
    data = tuple(float(v) for v in inverse[:2].ravel())
    return image.transform((size, size), Image.Transform.AFFINE, data, resample=Image.Resampling.BICUBIC)
