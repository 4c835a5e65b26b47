"""What a report is made of: a benchmark's settings, its runs, and what they say."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossbench.errors import InputError
from lossbench.results.answer import answer
from lossbench.results.looks import Looks, looks_at
from lossbench.results.settling import judged
from lossbench.results.store import load_records, of_benchmark
from lossbench.results.study import Study
from lossbench.results.verdicts import SMALLEST, Verdict

_SETTINGS: dict[str, type | tuple[type, ...]] = {  # settings in benchmark.toml that the report quotes
    **dict.fromkeys(("data", "backbone", "optimizer", "schedule", "select"), str),
    **dict.fromkeys(("image_size", "embedding_dim", "epochs", "batch_size", "seed"), int),
    "lr": (int, float),
}


@dataclass(frozen=True)
class Findings:
    """What a benchmark has found.

    `settings` is the content of benchmark.toml, including its table ``record``; `answer` the sentences that come first
    (see `results.answer`); `looks` are those that decided the verdicts, where repeats were added until all was settled;
    `left_out` counts the runs in the folder that were made with other settings.
    """

    settings: Mapping[str, Any]
    study: Study
    verdicts: Sequence[Verdict]
    answer: Sequence[str]
    looks: Looks | None = None
    left_out: int = 0


def read_findings(folder: Path) -> Findings:
    """Return what the runs with a benchmark's latest settings have found.

    Args:
        folder: a benchmark's folder, such as results/orl.

    Raises:
        InputError: there is no such folder, no run in it, or a damaged record.
    """
    settings = _settings(folder)
    everything = load_records(folder)
    records = of_benchmark(everything, settings["record"])
    if not records:
        raise InputError(
            f"no finished runs with the settings of {folder / 'benchmark.toml'}; "
            f"start with: lossbench run --config {folder / 'benchmark.toml'}"
        )
    order = {name: i for i, name in enumerate(settings["record"]["entrants"])}
    records.sort(key=lambda r: (order.get(r["entrant"], len(order)), r["entrant"], r["repeat"]))
    study = Study.of(records)
    looks = looks_at(folder, records)
    found = judged(study, looks, settings["smallest_difference"])
    return Findings(settings, study, found, answer(study, found), looks, len(everything) - len(records))


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
        cure = f"name one of {', '.join(below)}" if below else "lossbench report takes a folder such as results/orl"
        raise InputError(f"'{folder}' is not a benchmark's folder; {cure}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); run the benchmark again to rewrite it") from error
    return settings
