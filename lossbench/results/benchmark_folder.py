"""A benchmark's folder: its settings in benchmark.toml, and the records that belong to them."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from lossbench.errors import InputError, RunDamaged, did_you_mean
from lossbench.results.store import Record, load_records, of_benchmark
from lossbench.results.verdicts import SMALLEST
from lossbench.utils.text import clipped

_SETTINGS: dict[str, type | tuple[type, ...]] = {  # settings in benchmark.toml that a report quotes
    **dict.fromkeys(("data", "backbone", "optimizer", "schedule", "select"), str),
    **dict.fromkeys(("image_size", "embedding_dim", "epochs", "batch_size", "seed"), int),
    "lr": (int, float),
}


class Benchmark(NamedTuple):
    """A benchmark's latest settings, as in benchmark.toml, and the records that belong to them.

    The records come by entrant, in the order in which these were named, and by repeat. `left_out` counts the others in
    the folder.
    """

    settings: dict[str, Any]
    records: list[Record]
    left_out: int


class NoRunsYet(InputError):
    """A benchmark has no finished run with its latest settings."""


def read_benchmark(folder: Path, *, on_damaged: Callable[[RunDamaged], None] | None = None) -> Benchmark:
    """Read a benchmark's latest settings and their records.

    Args:
        folder: a benchmark's folder, such as results/orl.
        on_damaged: as for `load_records`.

    Raises:
        InputError: there is no such folder, no run in it, or a damaged record.
    """
    settings = _settings(folder)
    everything = load_records(folder, on_damaged=on_damaged)
    records = of_benchmark(everything, settings["record"])
    if not records:
        raise NoRunsYet(
            f"no finished runs with the settings of {folder / 'benchmark.toml'}; "
            f"start with: lossbench run --config {folder / 'benchmark.toml'}"
        )
    order = {name: i for i, name in enumerate(settings["record"]["entrants"])}
    records.sort(key=lambda r: (order.get(r["entrant"], len(order)), r["entrant"], r["repeat"]))
    return Benchmark(settings, records, len(everything) - len(records))


def run_in(folder: Path, entrant: str | None, repeat: int | None) -> Record:
    """Return the finished run of a benchmark that is named by its loss and its repeat; by one, where that is enough.

    Raises:
        InputError: there is none, there are several, or it has failed; or as `read_benchmark`.
    """
    records = read_benchmark(folder).records
    entrants = list(dict.fromkeys(record["entrant"] for record in records))
    if entrant is not None and entrant not in entrants:
        hint = did_you_mean(entrant, entrants) or "."
        raise InputError(f"--loss {clipped(entrant)} has no run in '{folder}'{hint} Losses: {', '.join(entrants)}")
    named = [record for record in records if entrant in (None, record["entrant"])]
    found = [record for record in named if repeat in (None, record["repeat"])]
    if not found:
        raise InputError(f"--repeat {repeat} is not in '{folder}'; its repeats: {_repeats(named)}")
    if len(found) > 1:
        there = (("--loss", entrant, ", ".join(entrants)), ("--repeat", repeat, _repeats(found)))
        missing = [f"{option} ({known})" for option, value, known in there if value is None]
        raise InputError(
            f"'{folder}' holds {len(found)} such runs; choose one with {' and '.join(missing)}, or name one of the "
            f"folders in {folder / 'runs'}"
        )
    if found[0]["status"] == "failed":
        raise InputError(f"{found[0]['folder']} has failed ({clipped(found[0]['reason'])}); it has no model to use")
    return found[0]


def _repeats(records: list[Record]) -> str:
    return ", ".join(str(number) for number in sorted({record["repeat"] for record in records}))


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "benchmark.toml"
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        settings["record"]["protocol"], settings["record"]["entrants"], settings["record"]["lossbench"]
        settings = {"optimizer": "adamw", "schedule": "cosine"} | settings  # older files have none, and no others
        for name, kind in _SETTINGS.items():
            if not isinstance(settings[name], kind):
                raise TypeError(f"{name} is {settings[name]!r}")
        smallest = settings.setdefault("smallest_difference", SMALLEST)  # older files have none
        if not (isinstance(smallest, int | float) and 0 < smallest < 1):
            raise TypeError(f"smallest_difference is {smallest!r}")
        if not isinstance(settings["record"]["lossbench"], str):
            raise TypeError("record.lossbench is not a string")
        if not all(isinstance(name, str) for name in settings["record"]["entrants"]):
            raise TypeError("record.entrants are not all strings")
    except FileNotFoundError:
        below = sorted(str(file.parent) for file in folder.glob("*/benchmark.toml"))
        cure = f"name one of {', '.join(below)}" if below else "name a folder such as results/orl"
        raise InputError(f"'{folder}' is not a benchmark's folder; {cure}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); run the benchmark again to rewrite it") from error
    return settings
