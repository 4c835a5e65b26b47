"""The record of a run on disk, and all runs of a benchmark as one table.

A run's folder holds ``run.json`` if and only if the run is whole (finished or failed): it is written last,
by rename. Nothing here is ever unpickled.
"""

import errno
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from lossbench.errors import InputError, RunDamaged
from lossbench.record_shape import fault_of
from lossbench.utils.files import write_text

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = 1
RUN_FILES = ("run.json", "checkpoint.pt", "history.jsonl", "weights.safetensors", "embeddings.npz", "resamples.npz")
Record = dict[str, Any]


def run_folder(benchmark: Path, entrant: str, repeat: int, digest: str) -> Path:
    """Return ``<benchmark>/runs/<spec>-r<repeat>-<hash>``, the spec reduced to characters any file system takes."""
    name = re.sub(r"[^A-Za-z0-9._+=-]", "_", entrant)[:80]
    return benchmark / "runs" / f"{name}-r{repeat}-{digest[:12]}"


def refuse_unwritable(path: Path, what: str) -> None:
    """Make the folder of a file that is to be written after long work, and see that it can be.

    Raises:
        InputError: it is a folder itself or a file of a run, or the folder it lies in cannot be made or written.
    """
    if path.name in RUN_FILES and (path.parent / "run.json").exists():
        raise InputError(f"{what}: {path} is a run's own file; choose another place")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        (path.parent / f".{path.name}.{os.getpid()}").touch()
        (path.parent / f".{path.name}.{os.getpid()}").unlink()
    except OSError as error:
        reason = "a file is in the way" if isinstance(error, FileExistsError | NotADirectoryError) else error.strerror
        raise InputError(f"{what}: {path} cannot be written ({reason}); choose another place") from error


def write_json(path: Path, value: Any) -> None:
    """Write figures as JSON, NaN as null, making the folder it lies in.

    Raises:
        InputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(_without_nan(value), indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error})") from error


def write_record(folder: Path, record: Record) -> Record:
    """Write ``run.json``, which makes the run whole, and return it as it will be read: NaN has become null."""
    text = json.dumps(_without_nan(record), indent=1, allow_nan=False)
    write_text(folder / "run.json", text + "\n")
    written: Record = json.loads(text)
    return written


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _without_nan(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_record(folder: Path) -> Record | None:
    """Return a run's record, or None when the run is not whole.

    Raises:
        RunDamaged: the file is cut, or is no record.
        InputError: it was written by a newer lossbench.
    """
    path = folder / "run.json"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, OSError, RecursionError) as error:
        raise RunDamaged(f"{path} cannot be read ({error})") from error
    if not isinstance(record, dict) or not isinstance(record.get("schema"), int):
        raise RunDamaged(f"{path} is not a lossbench record")
    if record["schema"] > SCHEMA:
        raise InputError(f"{path} has schema {record['schema']}, this lossbench reads {SCHEMA}; upgrade lossbench")
    if (fault := fault_of(record)) is not None:
        raise RunDamaged(f"{path} has no proper '{fault}'")
    return record


def load_records(benchmark: Path, *, on_damaged: Callable[[RunDamaged], None] | None = None) -> list[Record]:
    """Return the records of all whole runs in a benchmark's folder, by entrant and repeat, each with its ``folder``.

    Args:
        benchmark: its folder.
        on_damaged: called for every record that is damaged, which is then left out; None: such a one is raised.

    Raises:
        RunDamaged: a record is damaged, and nobody hears of it or no other is there.
        InputError: the folder holds no runs, or a record was written by a newer lossbench.
    """
    folders = sorted((benchmark / "runs").iterdir()) if (benchmark / "runs").is_dir() else []
    records: list[Record] = []
    damaged: RunDamaged | None = None
    for folder in folders:
        try:
            if (record := read_record(folder)) is not None:
                records.append({**record, "folder": str(folder)})
        except RunDamaged as error:
            if on_damaged is None:
                raise
            on_damaged(damaged := error)
    if not records and damaged is not None:
        raise damaged
    if not records:
        raise InputError(f"no finished runs in {benchmark}; start with: lossbench run --out {benchmark.parent}")
    return sorted(records, key=lambda record: (record["entrant"], record["repeat"]))


def of_benchmark(records: Iterable[Record], settled: Mapping[str, Any]) -> list[Record]:
    """Return the records that the table ``record`` of a benchmark.toml is about.

    They are of its protocol; of a loss whose plugin has changed since, they are those of the plugin that ran last.
    """
    plugins = settled.get("plugins")
    if not isinstance(plugins, dict):  # written by hand
        plugins = {}
    return [
        record
        for record in records
        if record["protocol_hash"] == settled["protocol"]
        and plugins.get(record["entrant"], record.get("plugin")) == record.get("plugin")
    ]


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
        raise RunDamaged(f"{path} cannot be read ({error})") from error


def read_embeddings(record: Record) -> dict[str, npt.NDArray[Any]]:
    """Return a run's embeddings of strangers.

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


def read_history(record: Record) -> list[dict[str, Any]]:
    """Return a run's history, a dictionary per epoch; empty for a run that never finished one.

    ``tracked`` is there where figures of test and query were asked for: flat name to number or None.
    """
    path = Path(record["folder"]) / "history.jsonl"
    if not path.is_file():
        return []
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        epochs: list[dict[str, Any]] = [
            {"epoch": int(_float(line["epoch"])), **{key: _float(line[key]) for key in ("train_loss", "val_accuracy")}}
            for line in lines
        ]
        for epoch, line in zip(epochs, lines, strict=True):
            if tracked := line.get("tracked"):
                epoch["tracked"] = {name: None if v is None else float(v) for name, v in tracked.items()}
        return epochs
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise RunDamaged(f"{path} is damaged ({error})") from error


def flat_metrics(record: Record) -> dict[str, float]:
    """Return a record's figures under flat names (``tpr@0.01``, ``query_inter``); NaN where a figure is null.

    Raises:
        InputError: a figure that is no number.
    """
    try:
        return {name: _float(value) for name, value in _flat(record).items()}
    except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        where = f"{record.get('folder', 'a run')}/run.json"
        raise RunDamaged(f"{where} is damaged ({error})") from error


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _flat(record: Record) -> dict[str, Any]:
    metrics = record.get("metrics") or {}
    flat = {name: metrics[name] for name in metrics if not isinstance(metrics[name], dict | list)}
    for point in metrics.get("identification", ()):
        flat[f"tpr@{point['fpr']:g}"] = point["tpr"]
        flat[f"achieved_fpr@{point['fpr']:g}"] = point["achieved_fpr"]
    for point in metrics.get("threshold_transfer", ()):
        flat[f"transfer_fpr@{point['fpr']:g}"] = point["achieved_fpr"]
        flat[f"transfer_tpr@{point['fpr']:g}"] = point["tpr"]
    for point in metrics.get("open_set", ()):
        flat[f"dir@{point['far']:g}"] = point["rate"]
    for search, rates in metrics.get("cmc", {}).items():
        flat.update({f"cmc{rank}_{search}": value for rank, value in rates.items() if rank != "entries"})
    for group in ("retrieval", "clusters"):
        flat.update(metrics.get(group, {}))
    flat.update({f"verification_{name}": value for name, value in _verification(metrics).items()})
    for people in ("train", "query"):
        flat.update({f"{people}_{name}": value for name, value in (metrics.get(f"{people}_angles") or {}).items()})
    flat.update(record.get("timings") or {})
    return flat


def _verification(metrics: Mapping[str, Any]) -> dict[str, float]:
    found = metrics.get("verification") or {}
    return {
        name: found[name] for name in ("accuracy", "standard_error", "threshold", "tar", "eer", "auc") if name in found
    }


def runs_frame(records: Iterable[Record]) -> "pd.DataFrame":
    """Return one row per run: entrant, repeat, fold, status, reason and every figure of `flat_metrics`."""
    import pandas as pd

    keys = ("entrant", "repeat", "fold", "status", "reason", "epoch", "sampler", "accuracy_by")
    return pd.DataFrame([{**{key: record.get(key) for key in keys}, **flat_metrics(record)} for record in records])
