"""The packed image store: every image decoded once into one memory-mapped uint8 array, shared by all runs.

A store is a file ``<key>.npy`` in the cache folder (``LOSSBENCH_CACHE``, else the platform's); its key is a hash of the
files' content. Hashing all files takes seconds, so an index ``<key>.index.json``, keyed by their paths, sizes and
times, names their store, which then opens in a fraction of a second; the SHA-256 of the files lie beside it in
``<key>.digests`` and are read only where they are asked for. The index is written last, by rename; a store counts only
if an index names it. A claim (`lossbench.utils.claims`) keeps processes, of several machines too, from building the
same store at once.
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lossbench.data.images.decode import read_bytes
from lossbench.data.images.packing import RECIPE, decode_into
from lossbench.data.images.recordio import ImagePlace, RecordImage
from lossbench.data.images.unreadable import LIST, unreadable
from lossbench.errors import InputError
from lossbench.utils.claims import alone, claimed
from lossbench.utils.files import heed_fence, temporary_mark, write_bytes
from lossbench.utils.processes import in_parallel, workers_for
from lossbench.utils.text import shown

_CHUNK = 32  # images that a process decodes and writes at a time
_SHA256 = 32  # bytes of a digest
_CHUNKS = 4  # that it is handed at a time


@dataclass(frozen=True)
class ImageStore:
    """Pixels [N, side, side, 3] uint8, memory-mapped copy-on-write.

    `fingerprint` covers the content of all files and how they were decoded; `index` is the store's in the cache.
    """

    pixels: npt.NDArray[np.uint8]
    fingerprint: str
    index: Path

    @cached_property
    def digests(self) -> tuple[str, ...]:
        """The SHA-256 of the N files, read when first asked for: a list as long as the files.

        Raises:
            InputError: the list is missing or damaged.
        """
        path = _digests_file(self.index)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"{shown(path)} cannot be read ({error.strerror}); {_CURE}") from error
        digests = tuple(data[start : start + _SHA256].hex() for start in range(0, len(data), _SHA256))
        if _fingerprint(digests, self.pixels.shape[1]) != self.fingerprint:
            raise InputError(f"{shown(path)} does not list the files of its store; {_CURE}")
        return digests


def cache_folder() -> Path:
    """Return the folder of the stores: ``LOSSBENCH_CACHE``, else the platform's cache folder."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("LOSSBENCH_CACHE") or user_cache_dir("lossbench"))


def open_store(
    files: Sequence[ImagePlace],
    side: int,
    *,
    cache: Path | None = None,
    workers: int | None = None,
    on_progress: Callable[[int], None] = lambda done: None,
) -> ImageStore:
    """Open the store of `files` at `side` x `side` pixels, building it on first use.

    A file counts as unchanged while its path, size and modification time are. If one changes, all are read again, and a
    store is built only if the content has changed too.

    Args:
        files: N image files, or images inside a larger file.
        side: pixels per side of the stored square, 8 to 1024.
        cache: folder of the stores; `cache_folder()` when None.
        workers: processes that decode; one per core when None.
        on_progress: called with the number of images decoded so far, while building.

    Raises:
        InputError: images that cannot be read or are decompression bombs (unreadable.txt in the cache lists them if
            there are several), or a cache folder that cannot be written.
    """
    if not 8 <= side <= 1024:
        raise InputError(f"--image-size {side} is out of range; use 8 to 1024 pixels")
    folder = cache or cache_folder()
    index = folder / f"{_stat_key(files, side)}.index.json"
    try:
        found = _read_index(index)
        if found is None:
            folder.mkdir(parents=True, exist_ok=True)
            with alone(_claims(index), folder):
                found = _read_index(index) or _build(files, side, index, workers, on_progress)
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(
            f"the image cache {shown(folder)} cannot be written ({reason}); set LOSSBENCH_CACHE"
        ) from error
    target = folder / found["store"]
    try:
        if _written(target) != found["written"]:
            raise InputError(f"the image store {target} has changed since it was built; {_CURE}")
        pixels = np.load(target, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"the image store {target} is damaged ({error}); {_CURE}") from error
    if pixels.shape != (len(files), side, side, 3) or pixels.dtype != np.uint8:
        raise InputError(f"the image store {target} does not fit its files; {_CURE}")
    return ImageStore(pixels, found["fingerprint"], index)


_CURE = "clear the cache to build it again: lossbench data cache --clear"


def _stat_key(files: Sequence[ImagePlace], side: int) -> str:
    digest = hashlib.sha256(f"{RECIPE}\0{side}\n".encode())
    here = Path.cwd()
    whole: dict[str, bytes] = {}  # of files that hold many images: each is asked once
    for file in files:
        if isinstance(file, RecordImage):
            if file.file not in whole:
                whole[file.file] = _stat(Path(file.file), here)
            digest.update(whole[file.file] + f"{file.start}\0{file.stop}\n".encode())
        else:
            digest.update(_stat(file, here))
    return digest.hexdigest()[:32]


def _stat(file: Path, here: Path) -> bytes:
    try:
        stat = file.stat()
    except OSError as error:
        raise InputError(f"{shown(file)} cannot be read ({error.strerror}); replace or remove it") from error
    place = os.fsencode(file if file.is_absolute() else here / file)
    return place + f"\0{stat.st_size}\0{stat.st_mtime_ns}\0{stat.st_ino}\n".encode()


def _read_index(path: Path) -> dict[str, Any] | None:
    """Return an index; None if there is none, its store is gone, or an older lossbench wrote it."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        whole = (path.parent / found["store"]).is_file() and _digests_file(path).is_file()
        return dict(found) if whole and isinstance(found["fingerprint"], str) and "written" in found else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{shown(path)} is damaged ({error!r}); {_CURE}") from error


def _build(
    files: Sequence[ImagePlace], side: int, index: Path, workers: int | None, on_progress: Callable[[int], None]
) -> dict[str, Any]:
    """Write the store and its index, or only the index if a store of the same content exists."""
    known = [p for p in index.parent.glob("*.npy") if p.name.endswith(f"-{len(files)}x{side}.npy")]
    if known:  # the tree may be copied or touched, and reading is much cheaper than decoding
        digests = [hashlib.sha256(read_bytes(file)).hexdigest() for file in files]
        if _is_whole(index.parent / _store_name(digests, side)):
            return _write_index(index, digests, side)
    heed_fence()
    for left in index.parent.glob(f".{index.stem}*.half"):  # left by a killed build of an older lossbench
        left.unlink(missing_ok=True)
    half = index.with_name(f".{index.stem}.{temporary_mark()}.half")
    header = _npy_header(len(files), side)
    try:
        with half.open("wb") as file:
            file.write(header)
            _reserve(file.fileno(), len(header) + len(files) * side * side * 3)
        digests, faults = [], []
        work = partial(decode_into, half, len(header), side)
        names = [file if isinstance(file, RecordImage) else str(file) for file in files]
        jobs = [(start, names[start : start + _CHUNK]) for start in range(0, len(names), _CHUNK)]
        for packed in in_parallel(work, jobs, workers=workers or workers_for(len(files)), chunk=_CHUNKS):
            digests += packed.digests
            faults += packed.faults
            on_progress(len(digests) + len(faults))
        if faults:
            raise unreadable(faults, index.parent)
        store = index.parent / _store_name(digests, side)
        heed_fence()
        with alone(_claims(store), store.parent):  # the same content at another path has another index
            if not _is_whole(store):
                half.replace(store)
            return _write_index(index, digests, side)
    finally:
        half.unlink(missing_ok=True)


def _is_whole(store: Path) -> bool:
    """Return whether a store exists and is unchanged since an index was written."""
    for index in store.parent.glob("*.index.json"):
        try:
            found = _read_index(index)
        except InputError:
            continue  # of other files: reported when those are opened
        if found and found["store"] == store.name and found["written"] == _written(store):
            return True
    return False


def _write_index(index: Path, digests: list[str], side: int) -> dict[str, Any]:
    store = _store_name(digests, side)
    found = {
        "store": store,
        "written": _written(index.parent / store),
        "fingerprint": _fingerprint(digests, side),
    }
    write_bytes(_digests_file(index), bytes.fromhex("".join(digests)))
    write_bytes(index, json.dumps(found).encode())
    return found


def _claims(file: Path) -> Path:
    return file.parent / ".claims" / file.name.partition(".")[0]


def _digests_file(index: Path) -> Path:
    return index.with_name(index.name.removesuffix(".index.json") + ".digests")


def _written(store: Path) -> list[int]:
    """Return size and modification time of a store; both change with the file."""
    stat = store.stat()
    return [stat.st_size, stat.st_mtime_ns]


def _fingerprint(digests: Sequence[str], side: int) -> str:
    return hashlib.sha256("\n".join([RECIPE, str(side), *digests]).encode()).hexdigest()


def _store_name(digests: Sequence[str], side: int) -> str:
    return f"{_fingerprint(digests, side)[:32]}-{len(digests)}x{side}.npy"


def _npy_header(count: int, side: int) -> bytes:
    import io

    header = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": (count, side, side, 3)}
    np.lib.format.write_array_header_1_0(header, fields)
    return header.getvalue()


def _reserve(descriptor: int, size: int) -> None:
    """Claim the whole file at once, so that a full disk is an error now and not a signal later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.ftruncate(descriptor, size)


@dataclass(frozen=True)
class Stored:
    """A store in the cache: its file, number of images, pixels per side, bytes on disk."""

    file: Path
    images: int
    side: int
    size: int


def stores(cache: Path | None = None) -> list[Stored]:
    """Return the stores in the cache, newest first."""
    found = []
    for file in (cache or cache_folder()).glob("*-*x*.npy"):
        count, side = file.stem.rsplit("-", 1)[1].split("x")
        stat = file.stat()
        found.append((stat.st_mtime, Stored(file, int(count), int(side), stat.st_size)))
    return [stored for _, stored in sorted(found, key=lambda pair: (-pair[0], pair[1].file))]


def clear_cache(cache: Path | None = None) -> int:
    """Delete all stores, indices and leftovers of killed builds; return the bytes freed. Claims are kept.

    Raises:
        InputError: a store is being built, or a file cannot be deleted.
    """
    freed = 0
    folder = cache or cache_folder()
    for half in folder.glob(".*.half"):
        size = half.stat().st_size if half.exists() else 0
        with claimed(_claims(half.with_name(half.name[1:])), folder) as mine:  # which deletes what its process left
            if not mine:
                raise InputError(f"a store is being built in {shown(folder)}; clear the cache when that is done")
            _delete(half)
            freed += size
    for pattern in ("*.index.json", "*.digests", "*-*x*.npy", ".*.index.json.*", ".*.digests.*", LIST):
        freed += sum(_delete(file) for file in folder.glob(pattern))
    return freed


def _delete(file: Path) -> int:
    """Delete a file and return its size; 0 if another process has deleted it."""
    try:
        size = file.stat().st_size
        file.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise InputError(f"{shown(file)} cannot be deleted: {error.strerror}") from error
    return size
