"""The arrays beside a run's record: embeddings and resamples, written whole and checked when they are read."""

import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossbench.data.faces import FaceSet
from lossbench.errors import RunDamaged
from lossbench.metrics import class_means
from lossbench.results.store import Record
from lossbench.utils.files import is_file, whole_file


def embedding_arrays(embeddings: dict[str, Tensor], faces: FaceSet, repeat: int, *, train: bool) -> dict[str, Any]:
    """Return what ``embeddings.npz`` holds: per part the embeddings [N, D], labels, people, and file names.

    Those of the training images, by far the most, are in it only if `train` says so; their class means
    (``train_means`` [C, D] float32, of norm 1) always are.
    """
    labels = torch.tensor(faces.split(repeat).train.labels)
    means = class_means(embeddings["train"], labels, len(faces.split(repeat).train.people))
    arrays: dict[str, Any] = {"train_means": means.to(torch.float32).numpy()}
    for name, part in faces.split(repeat).parts():
        if train or name != "train":
            arrays[name] = embeddings[name].numpy()
        arrays[f"{name}_labels"] = np.asarray(part.labels, dtype=np.int64)
        arrays[f"{name}_people"] = np.asarray(part.people, dtype=str)
        arrays[f"{name}_files"] = np.asarray([faces.names[row] for row in part.rows], dtype=str)
    return arrays


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write an .npz file whole or not at all.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    with whole_file(path) as file:
        np.savez(file, **arrays)


def read_arrays(record: Record, name: str, keys: Sequence[str] | None = None) -> dict[str, npt.NDArray[Any]]:
    """Return arrays of a run's .npz file (``embeddings.npz``, ``resamples.npz``); all of them when `keys` is None.

    Raises:
        RunDamaged: the file is missing or damaged.
    """
    path = Path(record["folder"]) / name
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in (file.files if keys is None else keys)}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, BadZipFile, zlib.error) as error:
        raise RunDamaged(f"{path} cannot be read ({_reason(error)})") from error


def damaged_arrays(records: Sequence[Record], *, embeddings: bool) -> list[RunDamaged]:
    """Return what is wrong with the arrays of finished runs: their resamples and, if asked for, their embeddings.

    Of embeddings, which are large, only the list of names is read; a run need not have any (see `without_embeddings`).
    """
    found: list[RunDamaged] = []
    for record in records:
        if record["status"] == "finished":
            try:
                read_resamples(record)
            except RunDamaged as error:
                found.append(error)
            try:
                if embeddings and is_file(Path(record["folder"]) / "embeddings.npz"):
                    read_arrays(record, "embeddings.npz", ())
            except RunDamaged as error:
                found.append(error)
    return found


def _reason(error: Exception) -> str:
    """Return why arrays cannot be read; numpy's own words for a file of something else recommend to unpickle it."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it is cut, or holds no arrays" if "pickle" in str(error) else str(error)


def without_embeddings(records: Sequence[Record]) -> list[Record]:
    """Return the finished runs that have no embeddings.npz: records are often passed on without these large files."""
    finished = [record for record in records if record["status"] == "finished"]
    return [record for record in finished if not is_file(Path(record["folder"]) / "embeddings.npz")]


def keeps_train(record: Record) -> bool:
    """Return whether a run's embeddings.npz holds the embeddings of its training images; reads its list of names."""
    try:
        with np.load(Path(record["folder"]) / "embeddings.npz", allow_pickle=False) as file:
            return "train" in file.files
    except (OSError, ValueError, AttributeError, EOFError, BadZipFile):
        return False


def read_embeddings(record: Record) -> dict[str, npt.NDArray[Any]]:
    """Return a run's embeddings of unseen people.

    Returns:
        ``query`` [N, D] and ``distractors`` [M, D] float32, finite and not zero; ``query_labels`` [N] int64, which
        person of ``query_people`` [P].

    Raises:
        RunDamaged: the file is missing or damaged, or does not hold these.
    """
    arrays = read_arrays(record, "embeddings.npz", ("query", "query_labels", "query_people", "distractors"))
    query, labels, people, distractors = arrays.values()
    whole = (
        query.ndim == distractors.ndim == 2
        and query.shape[1:] == distractors.shape[1:]
        and labels.shape == query.shape[:1]
        and people.ndim == 1
        and query.dtype == distractors.dtype == np.float32  # of this machine's byte order, which torch asks for
        and labels.dtype == np.int64
        and people.dtype.kind == "U"
        and bool(((labels >= 0) & (labels < len(people))).all())
        and all(bool((np.isfinite(rows).all(1) & (rows != 0).any(1)).all()) for rows in (query, distractors))
    )
    if not whole:
        raise RunDamaged(f"{Path(record['folder']) / 'embeddings.npz'} does not hold a run's embeddings")
    return arrays


def embeddings_side_by_side(records: Sequence[Record]) -> Iterator[dict[str, npt.NDArray[Any]]]:
    """Yield what `read_embeddings` returns of runs of one repeat, one at a time: those of many do not fit in memory.

    Raises:
        RunDamaged: as `read_embeddings`, or a run has other query people than the first.
    """
    first: dict[str, npt.NDArray[Any]] = {}
    for record in records:
        saved = read_embeddings(record)
        people = {name: saved[name] for name in ("query_labels", "query_people")}
        if any(not np.array_equal(own, people[name]) for name, own in first.items()):
            raise RunDamaged(f"{record['folder']} and {records[0]['folder']} do not hold embeddings of the same people")
        first = first or people
        yield saved


def read_resamples(record: Record) -> dict[str, npt.NDArray[np.float64]]:
    """Return a run's headline figures in resamples of its people: [B] by flat name, the same B for all.

    Raises:
        RunDamaged: the file is missing or damaged, or does not hold these.
    """
    arrays = read_arrays(record, "resamples.npz")
    if (
        any(array.ndim != 1 or array.dtype.kind != "f" for array in arrays.values())
        or len(set(map(len, arrays.values()))) > 1
    ):
        raise RunDamaged(f"{Path(record['folder']) / 'resamples.npz'} does not hold a run's resamples")
    return arrays
