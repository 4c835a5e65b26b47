"""InsightFace verification files (lfw.bin, cfp_fp.bin, agedb_30.bin): a pickle of encoded images and of pair labels.

A pickle can run any code when it is loaded. This reader admits only lists, tuples, bytes, booleans, numbers, and numpy
arrays of bytes or booleans. Arrays are rebuilt here from their bytes, so no function named by the file is ever called.
"""

import codecs
import csv
import io
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lossbench.data.images.decode import decode
from lossbench.data.prepare.target import alone, finished_crops, put_in_place, refuse_in_use
from lossbench.errors import InputError
from lossbench.utils.files import write_bytes
from lossbench.utils.text import shown

_PNG = b"\x89PNG"
_KINDS = {"u1": np.uint8, "i1": np.int8, "b1": np.bool_}


class _Dtype:
    """Stands for numpy.dtype."""

    def __init__(self, name: object, *_: object):
        name = name.decode("latin1") if isinstance(name, bytes) else name  # as Python 2 wrote it
        if not isinstance(name, str) or name not in _KINDS:
            raise pickle.UnpicklingError(f"an array of type {name!r}")
        self.kind = _KINDS[name]

    def __setstate__(self, state: object) -> None:
        """Ignore byte order, since all admitted types are single bytes."""


class _Array:
    """Stands for numpy.ndarray: keeps the state that the pickle gives it."""

    values: npt.NDArray[Any]

    def __setstate__(self, state: object) -> None:
        match state:
            case (_, tuple() as shape, _Dtype() as dtype, bool() | int(), bytes() as data):
                self.values = np.frombuffer(data, dtype.kind).reshape(shape)
            case _:
                raise pickle.UnpicklingError("a malformed array")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _frombuffer(data: object, dtype: object, shape: object, *_: object) -> _Array:
    array = _Array()
    array.__setstate__((1, shape, dtype, False, bytes(data) if isinstance(data, bytes | bytearray) else None))
    return array


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Bytes as Python 2 and protocol 2 write them."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise pickle.UnpicklingError("bytes in an odd encoding")
    return codecs.latin_1_encode(text)[0]


def _scalar(dtype: object, data: object = b"\0") -> bool:
    """A numpy boolean."""
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes) or len(data) != 1:
        raise pickle.UnpicklingError("a malformed number")
    return data != b"\0"


_ADMITTED = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": _Array,
    **{f"numpy.{core}.multiarray._reconstruct": _reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": _scalar for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _frombuffer for core in ("core", "_core")},
    "_codecs.encode": _encode,
}


class _Unpickler(pickle.Unpickler):
    """Admits what a verification file needs, and no other name."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _ADMITTED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is refused")
        return _ADMITTED[f"{module}.{name}"]


def read_bin(path: Path) -> tuple[list[bytes], list[bool]]:
    """Return the 2P encoded images and P labels (True: one person) of a verification file.

    Raises:
        InputError: it cannot be read, or holds anything but images and labels; nothing in it is executed.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"--file {shown(path)} cannot be read: {error.strerror}") from error
    try:
        found = _Unpickler(io.BytesIO(data), encoding="bytes").load()
    except Exception as error:  # the unpickler may raise anything for a damaged or hostile file
        raise InputError(
            f"--file {shown(path)} is not an InsightFace verification file: {shown(str(error)) or type(error).__name__}"
        ) from error
    if not isinstance(found, list | tuple) or len(found) != 2:
        raise InputError(f"--file {shown(path)} is another kind of pickle; it should hold two lists, images and labels")
    images, labels = _list(found[0]), _list(found[1])
    if not images or len(images) != 2 * len(labels):
        raise InputError(
            f"--file {shown(path)} holds {len(images)} images for {len(labels)} pairs; it should be two per pair"
        )
    encoded = [_bytes(image) for image in images]
    if any(image is None for image in encoded) or not all(isinstance(label, bool | int) for label in labels):
        raise InputError(f"--file {shown(path)} holds values that are not encoded images or true and false")
    return [image for image in encoded if image is not None], [bool(label) for label in labels]


def _list(value: object) -> list[Any]:
    if isinstance(value, _Array) and hasattr(value, "values"):
        return list(value.values.ravel().tolist())
    return list(value) if isinstance(value, list | tuple) else []


def _bytes(value: object) -> bytes | None:
    if isinstance(value, _Array) and hasattr(value, "values"):
        return value.values.tobytes()
    return value if isinstance(value, bytes) else None


def prepare_bin(path: Path, out: Path) -> tuple[int, int]:
    """Unpack a verification file into `out`/images and `out`/pairs.csv, which `lossbench run --pairs` reads.

    Images are written as they are encoded. `out` appears whole or not at all.

    Returns:
        The numbers of pairs and of images.

    Raises:
        InputError: `read_bin` refuses the file, an image cannot be decoded, or the target is in use or not writable.
    """
    images, labels = read_bin(path)
    try:
        refuse_in_use(out)
        with alone(out) as work:
            if count := finished_crops(out):
                raise InputError(
                    f"--out: {count:,} finished crops of an interrupted preparation wait in {shown(work)}; finish it, "
                    "delete that folder, or choose another --out"
                )
            put_in_place(_unpack(path, images, labels, work / "pairs"), out)
    except OSError as error:
        raise InputError(f"--out: {shown(out)} cannot be written ({error.strerror}); choose another place") from error
    return len(labels), len(images)


def _unpack(path: Path, images: Sequence[bytes], labels: Sequence[bool], folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    (folder / "images").mkdir(parents=True)
    names = []
    for i, data in enumerate(images):
        decode(data, f"image {i} of {path}")
        names.append(f"images/{i:06d}.{'png' if data.startswith(_PNG) else 'jpg'}")
        (folder / names[-1]).write_bytes(data)
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["a", "b", "same"])
    table.writerows((names[2 * i], names[2 * i + 1], int(same)) for i, same in enumerate(labels))
    write_bytes(folder / "pairs.csv", rows.getvalue().encode())
    return folder
