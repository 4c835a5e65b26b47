"""What differed between entrants, and how to make the same benchmark again: command, fingerprints, versions."""

import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lossbench.config import SETTINGS
from lossbench.losses.plugin import UNTRAINED
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.utils.text import clipped, listed

#: Settings of the place, which change no figure.
ELSEWHERE = ("out", "jobs", "device", "max_minutes", "log_to", "engine", "ray_address", "gpus_per_run")


class Difference(NamedTuple):
    """What was not the same for all losses: each value, and the losses that had it."""

    what: str
    topic: str
    values: tuple[tuple[str, str], ...]


def differences(study: Study) -> list[Difference]:
    """Return what differed between the trained entrants apart from the loss itself, as their records say."""
    records = [record for record in study.records if record["entrant"] != UNTRAINED]
    questions: tuple[tuple[str, str, Callable[[Record], Any]], ...] = (
        ("batches", "batches", lambda r: r.get("sampler")),
        ("accuracy by", "accuracy", lambda r: r.get("accuracy_by")),
        ("device", "seconds", lambda r: machine_of(r, "device")),
        ("threads", "seconds", lambda r: machine_of(r, "threads")),
        ("lossbench", "fingerprint", lambda r: machine_of(r, "lossbench")),
        ("Python", "fingerprint", lambda r: machine_of(r, "python")),
    )
    found = []
    for what, topic, ask in questions:
        values: dict[str, list[str]] = {}
        for record in records:
            if (value := ask(record)) is not None:
                names = values.setdefault(clipped(str(value)), [])
                names += [record["entrant"]] if record["entrant"] not in names else []
        if len(values) > 1:
            found.append(Difference(what, topic, tuple((value, listed(names)) for value, names in values.items())))
    return found


def command(settings: Mapping[str, Any]) -> list[str]:
    """Return the command that trains the benchmark of a benchmark.toml, quoted for a shell: each option with its value.

    Example:
        >>> command({"losses": "ce,arcface", "data": "my faces", "epochs": 5, "flip": False, "record": {}})
        ['lossbench run', '--losses ce,arcface', "--data 'my faces'", '--epochs 5']
    """
    words = ["lossbench run"]
    for name in (name for name in SETTINGS if name not in ELSEWHERE):
        value, option = settings.get(name), f"--{name.replace('_', '-')}"
        if value is True:
            words.append(option)
        elif name == "plugins" and isinstance(value, list):
            words += [f"{option} {shlex.quote(str(folder))}" for folder in value]
        elif isinstance(value, list):
            words += [f"{option} {shlex.quote(','.join(map(str, value)))}"] if value else []
        elif value is not None and value is not False:
            words.append(f"{option} {shlex.quote(str(value))}")
    return words


def fingerprints(records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return what identifies data, split, protocol and plugins, label and SHA-256."""
    protocol = records[0].get("protocol")
    protocol = protocol if isinstance(protocol, dict) else {}
    found = [
        ("protocol", records[0]["protocol_hash"]),
        ("images", protocol.get("data")),
        ("code", protocol.get("code")),
    ]
    found += [(f"split of repeat {r + 1}", split) for r, split in sorted({(r["repeat"], r["split"]) for r in records})]
    found += [(f"plugin {name}", plugin) for name, plugin in {r["entrant"]: r.get("plugin") for r in records}.items()]
    return [(clipped(str(label)), clipped(str(digest))) for label, digest in found if digest]


def versions(settings: Mapping[str, Any], records: Sequence[Record]) -> list[tuple[str, str]]:
    """Return software and hardware, label and text; several values where runs differ."""
    protocol = records[0].get("protocol")
    packages = protocol.get("versions") if isinstance(protocol, dict) else None
    found = [("lossbench, of the report", str(settings["record"]["lossbench"]))]
    found += [(key, _all(machine_of(r, key) for r in records)) for key in ("lossbench", "python", "system", "device")]
    found.append(("threads", _all(machine_of(r, "threads") for r in records)))
    found.append(("processes of each run", _all(_together(r) for r in records)))
    found += [(str(k), str(v)) for k, v in packages.items()] if isinstance(packages, dict) else []
    return [(clipped(label), clipped(text, 200)) for label, text in found if text]


def machine_of(record: Record, key: str) -> Any:
    """Return what a record says of the machine that made it; None where it does not say."""
    machine = record.get("machine")
    return machine.get(key) if isinstance(machine, dict) else None


def _together(record: Record) -> str | None:
    """Return how many processes trained a run together; None for one alone."""
    said = record.get("processes")
    if not isinstance(said, dict) or said.get("count") in (None, 1):
        return None
    over = said.get("batch_normalisation")
    return f"{said['count']} (batch normalisation {over})" if over else str(said["count"])


def _all(values: Iterable[Any]) -> str:
    return ", ".join(dict.fromkeys(str(value) for value in values if value is not None))
