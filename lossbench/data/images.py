"""The packed image store: every image decoded once into one memory-mapped uint8 array, shared by all runs.

The store lies in a cache folder (``LOSSBENCH_CACHE``, else the platform's) and is taken for whole only when its
description stands beside it, which is written last, by rename.
"""

import hashlib
import io
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from lossbench.errors import InputError

RECIPE = "rgb, centre square, PIL bilinear"  # how a file becomes pixels; part of the fingerprint
MAX_PIXELS = 50_000_000  # a face crop is 0.01 megapixels: beyond 50 it is a decompression bomb


@dataclass(frozen=True)
class ImageStore:
    """Pixels [N, side, side, 3] uint8, memory-mapped copy-on-write, and the SHA-256 over all files' bytes."""

    pixels: npt.NDArray[np.uint8]
    fingerprint: str


def cache_folder() -> Path:
    """Return the folder that stores live in: ``LOSSBENCH_CACHE``, else the platform's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("LOSSBENCH_CACHE") or user_cache_dir("lossbench"))


def open_store(
    files: Sequence[Path],
    side: int,
    *,
    cache: Path | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> ImageStore:
    """Open the store of `files` at `side` x `side` pixels, building it on first use.

    A store belongs to the files' paths, sizes and modification times; when one of them changes, it is built anew.

    Args:
        files: N image files.
        side: pixels per side of the stored square, 8 to 1024.
        cache: where stores live; `cache_folder()` when None.
        on_progress: called with the number of images decoded so far, while building.

    Raises:
        InputError: an image that cannot be read or is a decompression bomb, or a cache folder that cannot be written.
    """
    if not 8 <= side <= 1024:
        raise InputError(f"--image-size {side} is out of range; use 8 to 1024 pixels")
    folder = cache or cache_folder()
    key = _key(files, side)
    target, note = folder / f"{key}.npy", folder / f"{key}.json"
    if not note.is_file():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _build(files, side, target, note, on_progress)
        except OSError as error:
            raise InputError(f"the image cache {folder} cannot be written ({error}); set LOSSBENCH_CACHE") from error
    try:
        fingerprint = json.loads(note.read_text())["fingerprint"]
        pixels = np.load(target, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"the image store {target} is damaged ({error}); delete it and run again") from error
    if pixels.shape != (len(files), side, side, 3) or pixels.dtype != np.uint8:
        raise InputError(f"the image store {target} does not fit its files; delete it and run again")
    return ImageStore(pixels, fingerprint)


def _key(files: Sequence[Path], side: int) -> str:
    digest = hashlib.sha256(f"{RECIPE}\0{side}\n".encode())
    for file in files:
        stat = file.stat()
        digest.update(f"{file.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:32]


def _build(files: Sequence[Path], side: int, target: Path, note: Path, on_progress: Callable[[int], None]) -> None:
    half = target.with_name(f".{target.stem}-{os.getpid()}.npy")
    digest = hashlib.sha256(f"{RECIPE}\0{side}\n".encode())
    try:
        pixels = np.lib.format.open_memmap(half, mode="w+", dtype=np.uint8, shape=(len(files), side, side, 3))
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
            for i, (image, sha) in enumerate(pool.map(lambda file: _decode(file, side), files)):
                pixels[i] = image
                digest.update(sha)
                on_progress(i + 1)
        pixels.flush()
        del pixels
        half.replace(target)
        half_note = half.with_suffix(".json")
        half_note.write_text(json.dumps({"fingerprint": digest.hexdigest(), "images": len(files), "side": side}))
        half_note.replace(note)
    finally:
        half.unlink(missing_ok=True)


def _decode(file: Path, side: int) -> tuple[npt.NDArray[np.uint8], bytes]:
    data = file.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(
                    f"{file} is {image.width}x{image.height}; images beyond {MAX_PIXELS} pixels are refused"
                )
            rgb = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{file} cannot be read as an image ({error}); replace or remove it") from error
    edge = min(rgb.size)
    left, top = (rgb.width - edge) // 2, (rgb.height - edge) // 2
    square = rgb.resize((side, side), Image.Resampling.BILINEAR, box=(left, top, left + edge, top + edge))
    return np.asarray(square, dtype=np.uint8), hashlib.sha256(data).digest()
