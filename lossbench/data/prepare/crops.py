"""Aligned crops of photos, made in parallel, each written whole or not at all.

A crop is kept under a key of all that it is made from (the photo's bytes, landmarks, options, versions): a later try
takes it for that photo alone, and makes a changed photo's crop again.
"""

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import __version__ as pillow

from lossbench.data.images.decode import decode, read_bytes
from lossbench.data.images.unreadable import unreadable
from lossbench.data.prepare.align import Points, box_matrix, landmark_matrix, template, transform, warp
from lossbench.data.prepare.collection import Collection, Photo
from lossbench.data.prepare.duplicates import Thumbnails, thumbnail
from lossbench.data.prepare.fit import refuse_odd
from lossbench.data.prepare.options import CropOptions
from lossbench.errors import InputError
from lossbench.utils.files import write_bytes
from lossbench.utils.machine import lossbench_version
from lossbench.utils.processes import in_parallel
from lossbench.utils.text import shown

JPEG_QUALITY = 95


@dataclass(frozen=True)
class MadeCrop:
    """A crop on disk: where, SHA-256 of its bytes and of its photo's, thumbnail, eyes' pixels from the template."""

    file: Path
    sha256: str
    source_sha256: str
    thumbnail: Thumbnails
    eye_error: float | None


def make_crops(
    collection: Collection,
    photos: Sequence[Photo],
    names: Sequence[str],
    folder: Path,
    options: CropOptions,
    on_progress: Callable[[int, int], None],
) -> list[MadeCrop]:
    """Write the crop of every photo to `folder`/PERSON/KEY.jpg; existing crops are reused.

    A photo that cannot be used does not stop the others; in the end, `folder`/unreadable.txt lists all of them.

    Args:
        collection: where the photos come from.
        photos: N photos.
        names: N paths, ``person/file.jpg``.
        folder: must exist.
        options: size and kind.
        on_progress: called with crops finished and crops in all.

    Raises:
        InputError: unreadable photos, or landmarks that cannot be those of a face on the photo.
        OSError: the disk is full, or the folder cannot be written.
    """
    for person in sorted({photo.person for photo in photos}):
        (folder / person).mkdir(exist_ok=True)
    work = partial(_try_crop, folder, options, collection.face_box)
    crops: list[MadeCrop] = []
    bad: list[str] = []
    for crop in in_parallel(work, list(zip(photos, names, strict=True))):
        if isinstance(crop, str):
            bad.append(crop)
        else:
            crops.append(crop)
        on_progress(len(crops) + len(bad), len(photos))
    if bad[1:] and not any(folder.glob("*/*.jpg")):  # nothing waits, so the folder will be deleted with any list in it
        raise InputError(f"{bad[0]} (none of the {len(bad):,} photos can be used)")
    if bad:
        raise unreadable(bad, folder, "photos")
    return crops


def _try_crop(
    folder: Path, options: CropOptions, face_box: tuple[float, float, float], job: tuple[Photo, str]
) -> MadeCrop | str:
    try:
        return _make_crop(folder, options, face_box, job)
    except InputError as error:
        return str(error)


def _make_crop(
    folder: Path, options: CropOptions, face_box: tuple[float, float, float], job: tuple[Photo, str]
) -> MadeCrop:
    """Align one photo and write its crop, unless it exists; runs in a worker process."""
    photo, name = job
    error = None
    if photo.landmarks is not None:
        try:
            error = eye_error(landmark_matrix(photo.landmarks, options.size, options.crop), photo.landmarks, options)
        except ValueError as wrong:
            raise InputError(f"{shown(photo.path)}: {wrong}; fix its row in the landmark file") from wrong
    source = read_bytes(photo.path)
    source_sha256 = hashlib.sha256(source).hexdigest()
    made_from = f"{lossbench_version()}\0{pillow}\0{options}\0{face_box}\0{name}\0{photo.landmarks}\0{source_sha256}"
    target = folder / photo.person / f"{hashlib.sha256(made_from.encode()).hexdigest()[:32]}.jpg"
    data = target.read_bytes() if target.is_file() else b""
    if not data:  # or empty after a power cut
        image = decode(source, photo.path)
        if photo.landmarks is not None:
            refuse_odd(photo, photo.landmarks, image.size)
        crop = warp(image, _matrix(photo, image.size, options, face_box), options.size)
        buffer = io.BytesIO()
        crop.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
        data = buffer.getvalue()
        write_bytes(target, data)
    return MadeCrop(target, hashlib.sha256(data).hexdigest(), source_sha256, thumbnail(decode(data, target)), error)


def _matrix(photo: Photo, size: tuple[int, int], options: CropOptions, box: tuple[float, float, float]) -> Points:
    if photo.landmarks is not None:
        return landmark_matrix(photo.landmarks, options.size, options.crop)
    edge, (x, y, side) = min(size), box
    centre = size[0] / 2 + (x - 0.5) * edge, size[1] / 2 + (y - 0.5) * edge
    return box_matrix((*centre, side * edge), options.size, options.crop)


def eye_error(matrix: Points, landmarks: Sequence[float], options: CropOptions) -> float:
    """Return how far the transformed eyes lie from the template's, on average of the two, in pixels of the crop."""
    moved = transform(matrix, np.reshape(landmarks, (5, 2)) + 0.5)
    return float(np.linalg.norm((moved - template(options.size, options.crop))[:2], axis=1).mean())
