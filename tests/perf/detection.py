"""How well `data prepare folder --detect` aligns, against landmarks that somebody has given.

    python tests/perf/detection.py FOLDER --landmarks FILE [--photos N]

FOLDER holds a folder per person, FILE a row of PERSON/FILE and ten numbers for each photo; or both are CelebA's, as
downloaded. It prints how many faces are found, how far their five points lie from the given ones (in pixels of the
photo, and as shares of the distance of the eyes), how far that moves the corners of a crop of 112 pixels, how much its
pixels change, and the seconds per photo. It needs the extra [align].
"""

import argparse
import time
from pathlib import Path

import numpy as np

from lossbench.data.images.decode import decode, read_bytes
from lossbench.data.prepare.align import landmark_matrix, transform, warp
from lossbench.data.prepare.celeba import IDENTITIES, read_celeba
from lossbench.data.prepare.collection import Photo, read_folder
from lossbench.data.prepare.detection import Found
from lossbench.data.prepare.face_choice import choose_face
from lossbench.data.prepare.mtcnn import detector
from lossbench.data.prepare.options import DetectOptions

SIDE = 112


def photos_of(folder: Path, landmarks: Path | None) -> list[Photo]:
    celeba = (folder / IDENTITIES).exists() or (folder / "Anno").exists()
    return list((read_celeba(folder) if celeba else read_folder(folder, landmarks)).photos)


def moved_corners(found: np.ndarray, given: np.ndarray) -> float:
    """Return how far the corners of the crop by detection lie from those of the other, on average, in its pixels."""
    corners = np.array([[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE]], dtype=float)
    inverse = np.linalg.inv(np.vstack([found, [0, 0, 1]]))[:2]
    return float(np.linalg.norm(transform(given, transform(inverse, corners)) - corners, axis=1).mean())


def row(what: str, values: list[float], digits: int = 2) -> None:
    low, middle, high = np.mean(values), np.median(values), np.percentile(values, 95)
    print(f"{what:44} {low:8.{digits}f} {middle:8.{digits}f} {high:8.{digits}f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--landmarks", type=Path)
    parser.add_argument("--photos", type=int, default=10**9, help="at most so many, evenly chosen")
    chosen = parser.parse_args()
    photos = photos_of(chosen.folder, chosen.landmarks)
    photos = photos[:: max(1, len(photos) // chosen.photos)]
    detector()  # outside of the clock
    doubts: dict[str, int] = {}
    pixels, shares, offsets, corners, changes, seconds = [], [], [], [], [], []
    for photo in photos:
        image = decode(read_bytes(photo.path), photo.path)
        start = time.perf_counter()
        faces = tuple(detector().faces(np.asarray(image)))
        seconds.append(time.perf_counter() - start)
        choice = choose_face(photo.path, Found("", image.size, faces), DetectOptions())
        doubts[choice.doubt] = doubts.get(choice.doubt, 0) + 1
        if choice.landmarks is None:
            continue
        given, found = (np.reshape(points, (5, 2)) for points in (photo.landmarks, choice.landmarks))
        offsets.append((found - given).mean(axis=0))
        pixels += list(np.linalg.norm(found - given, axis=1))
        shares += list(np.linalg.norm(found - given, axis=1) / np.linalg.norm(given[1] - given[0]))
        theirs, ours = (landmark_matrix(points, SIDE, "arcface") for points in (photo.landmarks, choice.landmarks))
        corners.append(moved_corners(ours, theirs))
        crops = [np.asarray(warp(image, matrix, SIDE), dtype=float) for matrix in (theirs, ours)]
        changes.append(float(np.abs(crops[0] - crops[1]).mean()))
    count = len(photos)
    used = len(corners)
    print(
        f"{used:,} of {count:,} photos are used ({used / count:.1%}), {count - doubts.get('no face', 0):,} show a face"
    )
    print(", ".join(f"{name}: {number:,}" for name, number in sorted(doubts.items()) if name) or "none is doubtful")
    print(f"{'':44} {'mean':>8} {'median':>8} {'95 %':>8}")
    row("distance of a point, pixels of the photo", pixels)
    row("distance of a point, share of the eyes'", shares, 4)
    row(f"corner of the crop, pixels of {SIDE}", corners)
    row("change of the crop's pixels, of 255", changes)
    x, y = np.mean(offsets, axis=0)
    print(f"all points on average: {x:+.2f} px in x, {y:+.2f} px in y")
    print(f"{np.mean(seconds):.3f} s per photo, in one thread")


if __name__ == "__main__":
    main()
