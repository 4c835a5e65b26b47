"""What a report is made of: a benchmark's settings, its runs, and what they say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lossbench.errors import RunDamaged, refuse_damaged
from lossbench.results.answer import answer
from lossbench.results.arrays import damaged_arrays
from lossbench.results.benchmark_folder import read_benchmark
from lossbench.results.looks import Looks, looks_at
from lossbench.results.settling import judged
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict


@dataclass(frozen=True)
class Findings:
    """What a benchmark has found.

    `settings` is the content of benchmark.toml, including its table ``record``; `answer` the sentences that come first
    (see `results.answer`); `looks` are those that decided the verdicts, where repeats were added until all was settled;
    `left_out` counts the runs in the folder that were made with other settings. `provisional` says, where the report is
    watched, how many runs are done; empty otherwise.
    """

    settings: Mapping[str, Any]
    study: Study
    verdicts: Sequence[Verdict]
    answer: Sequence[str]
    looks: Looks | None = None
    left_out: int = 0
    provisional: str = ""


def read_findings(folder: Path) -> Findings:
    """Return what the runs with a benchmark's latest settings have found.

    Args:
        folder: a benchmark's folder, such as results/orl.

    Raises:
        InputError: there is no such folder, no run in it, or files of runs are damaged, all of which are named.
    """
    damaged: list[RunDamaged] = []
    settings, records, left_out = read_benchmark(folder, on_damaged=damaged.append)
    refuse_damaged([*damaged, *damaged_arrays(records, embeddings=True)])
    study = Study.of(records)
    looks = looks_at(folder, records)
    found = judged(study, looks, settings["smallest_difference"])
    return Findings(settings, study, found, answer(study, found), looks, left_out)
