"""The record of a run on disk, and all runs of a benchmark as one table.

A run's folder holds ``run.json`` if and only if the run is whole (finished or failed): it is written last,
by rename. Nothing here is ever unpickled.
"""

import errno
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lossbench.errors import InputError, RunDamaged, refuse_damaged
from lossbench.results.schema import SCHEMA, fault_of, upgraded
from lossbench.utils.files import write_text
from lossbench.utils.text import file_name, json_text

RUN_FILES = ("run.json", "checkpoint.pt", "history.jsonl", "weights.safetensors", "embeddings.npz", "resamples.npz")
Record = dict[str, Any]


def run_folder(benchmark: Path, entrant: str, repeat: int, digest: str) -> Path:
    """Return ``<benchmark>/runs/<spec>-r<repeat>-<hash>``, the spec as a `file_name`."""
    return benchmark / "runs" / f"{file_name(entrant)}-r{repeat}-{digest[:12]}"


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
        write_text(path, json_text(value) + "\n")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror or error})") from error


def write_record(folder: Path, record: Record) -> Record:
    """Write ``run.json``, which makes the run whole, and return it as it will be read: NaN has become null."""
    text = json_text(record)
    write_text(folder / "run.json", text + "\n")
    written: Record = json.loads(text)
    return written


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
    if not isinstance(record, dict) or type(record.get("schema")) is not int:
        raise RunDamaged(f"{path} is not a lossbench record")
    if record["schema"] > SCHEMA:
        raise InputError(f"{path} has schema {record['schema']}, this lossbench reads {SCHEMA}; upgrade lossbench")
    try:
        record = upgraded(record)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunDamaged(f"{path} is not a record of schema {record['schema']} ({error!r})") from error
    if (fault := fault_of(record)) is not None:
        raise RunDamaged(f"{path} has no proper '{fault}'")
    return record


def load_records(benchmark: Path, *, on_damaged: Callable[[RunDamaged], None] | None = None) -> list[Record]:
    """Return the records of all whole runs in a benchmark's folder, by entrant and repeat, each with its ``folder``.

    Args:
        benchmark: its folder.
        on_damaged: called for every record that is damaged, which is then left out; if None, the error is raised.

    Raises:
        RunDamaged: records are damaged and `on_damaged` is None, or there is no other; it names all of them.
        InputError: the folder holds no runs, or a record was written by a newer lossbench.
    """
    folders = sorted((benchmark / "runs").iterdir()) if (benchmark / "runs").is_dir() else []
    records: list[Record] = []
    damaged: list[RunDamaged] = []
    for folder in folders:
        try:
            if (record := read_record(folder)) is not None:
                records.append({**record, "folder": str(folder)})
        except RunDamaged as error:
            damaged.append(error)
            if on_damaged is not None:
                on_damaged(error)
    if on_damaged is None or not records:
        refuse_damaged(damaged)
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


def find_runs(
    places: Sequence[Path],
    *,
    on_note: Callable[[str], None] = lambda note: None,
    on_damaged: Callable[[RunDamaged], None] | None = None,
) -> list[Record]:
    """Return the finished runs in the folders named: runs, or benchmarks with all of theirs.

    Args:
        places: folders.
        on_note: called with a line for every folder in which runs have failed: they have no model to use.
        on_damaged: called for every damaged record of a benchmark; if None, the error is raised.

    Raises:
        RunDamaged: a record is damaged.
        InputError: a folder that is neither, or holds no finished run.
    """
    records: list[Record] = []
    for place in places:
        if (place / "runs").is_dir():
            found = load_records(place, on_damaged=on_damaged)
        else:
            record = read_record(place)
            if record is None and (benchmarks := sorted(str(runs.parent) for runs in place.glob("*/runs"))):
                raise InputError(f"'{place}' holds benchmarks, not runs; name one: {', '.join(benchmarks)}")
            if record is None:
                raise InputError(f"no finished run in '{place}'; name a folder such as results/orl/runs/arcface-r0-…")
            found = [{**record, "folder": str(place)}]
        finished = [record for record in found if record["status"] == "finished"]
        if not finished:
            raise InputError(f"every run in '{place}' has failed; there is no model to use")
        if len(finished) < len(found):
            on_note(
                f"note: {len(found) - len(finished)} of {len(found)} runs in '{place}' have failed and are left out"
            )
        records += finished
    return list({Path(record["folder"]).resolve(): record for record in records}.values())


def find_run(place: Path) -> Record:
    """Return the finished run in a folder: a run's, or that of a benchmark with a single one.

    Raises:
        RunDamaged: the record is damaged.
        InputError: the folder holds none, or several.
    """
    records = find_runs([place])
    if len(records) > 1:
        raise InputError(f"'{place}' holds {len(records)} finished runs; name one of the folders in {place / 'runs'}")
    return records[0]
