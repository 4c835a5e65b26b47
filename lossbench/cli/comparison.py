"""A benchmark run to its end and compared: what `lossbench run` prints, and what a notebook gets."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.config import Config
from lossbench.errors import InputError

if TYPE_CHECKING:
    from lossbench.benchmark.listener import Listener
    from lossbench.results.looks import Looks
    from lossbench.results.store import Record
    from lossbench.results.study import Study


@dataclass(frozen=True)
class Comparison:
    """A benchmark's settings and folder, its records, and what is computed from them; `answer` are the sentences."""

    config: Config
    folder: Path
    records: "list[Record]"
    study: "Study"
    looks: "Looks | None"
    answer: list[str]

    @property
    def nothing_finished(self) -> bool:
        """Whether every loss has failed."""
        from lossbench.losses.plugin import UNTRAINED

        return all(record["status"] == "failed" for record in self.records if record["entrant"] != UNTRAINED)


def checked(given: Mapping[str, Any], others: Mapping[str, Any] | None = None) -> Config:
    """Return the settings of a benchmark, what can be checked without torch checked: a typing error is said at once.

    Args:
        given: settings that were named one by one; they win.
        others: settings from elsewhere, such as a file.

    Raises:
        InputError: a value out of range, an unknown loss, backbone or choice, or settings that exclude each other.
    """
    from lossbench.losses.registry import find_plugins
    from lossbench.losses.spec import parse_losses, spelled_out

    config = Config(**{**(others or {}), **given})
    resolved = config.resolved()
    if config.until_settled and given.get("repeats", 0) > (most := resolved.max_repeats or 0):
        raise InputError(f"--repeats {given['repeats']} is more than --max-repeats {most}; give {most} repeats at most")
    known = find_plugins(config.plugins)
    config = replace(config, losses=spelled_out(config.losses, known))
    parse_losses(config.losses, known)
    return config


def compare(config: Config, listener: "Listener", **options: bool) -> Comparison:
    """Run what is missing of a benchmark, and write its verdicts.

    Args:
        config: settings, `checked`.
        listener: receives the progress.
        options: as for `run_benchmark`.

    Raises:
        InputError: as `run_benchmark`.
    """
    from lossbench.benchmark.driver import run_benchmark
    from lossbench.results.looks import looks_at
    from lossbench.results.settling import judged
    from lossbench.results.study import Study
    from lossbench.results.verdict_file import write_verdicts

    folder, records = run_benchmark(config, listener, **options)
    study = Study.of(records)
    looks = looks_at(folder, records)
    answer = write_verdicts(folder, study, judged(study, looks, config.smallest_difference))
    return Comparison(config, folder, records, study, looks, answer)


def show(made: Comparison) -> None:
    """Print a comparison: the answer, the tables, what is thin or has failed."""
    from lossbench.cli import console
    from lossbench.report.sections import negatives_line, other_points_line
    from lossbench.report.tables import MEANING, failures, text_table, thin_line
    from lossbench.results.metric_fields import shown_in, with_figures
    from lossbench.results.settling import uncovered_text

    study, records = made.study, made.records
    for line in [*made.answer, *filter(None, [uncovered_text(made.looks, study)]), MEANING, ""]:
        console.say(line)
    shown = shown_in("headline", "speed", fprs=study.fprs)
    headers, rows = text_table(study, shown)
    repeated = f"mean ± 95 % interval over {study.repeats} repeats and their people"
    title = f"{made.config.benchmark}: {repeated if study.repeats > 1 else 'one repeat, which has no interval'}"
    console.table(headers, rows, title=title)
    console.say("* accuracy by nearest class mean of the training embeddings: this row has no class scores")
    if with_figures(records, "verification"):
        console.table(*text_table(study, shown_in("verification")), title=f"verification pairs of {made.config.pairs}")
    further = thin_line(shown, records), negatives_line(study), other_points_line(study)
    for line in filter(None, [*further, *failures(records)]):
        console.say(line)
    console.say(f"records in {made.folder}; write the comparison with: lossbench report {made.folder}")
    if made.config.until_settled and made.looks:
        console.say(made.looks.ended)


def figures(made: Comparison) -> dict[str, Any]:
    """Return a comparison as `run --json` prints it."""
    study = made.study
    return {
        "benchmark": made.config.benchmark,
        "folder": str(made.folder),
        "answer": made.answer,
        "losses": [_of_loss(name, study) for name in study.entrants],
        "runs": runs_of(made.records),
    }


def runs_of(records: "Sequence[Record]") -> list[dict[str, Any]]:
    """Return what `run --json` prints of runs."""
    return [{key: record.get(key) for key in _OF_RUN} for record in records]


_OF_RUN = ("entrant", "repeat", "status", "reason", "folder", "hash", "metrics", "timings")


def _of_loss(name: str, study: "Study") -> dict[str, Any]:
    from lossbench.results.metric_fields import shown_in

    own = study.of_entrant(name)
    found = {}
    for figure in {figure.key: figure for figure in shown_in("headline", "runs", fprs=study.fprs)}.values():
        estimate = study.estimate(name, figure.key)
        low, high = estimate.interval(*figure.limits)
        if estimate.count:
            found[figure.key] = {"mean": estimate.mean, "low": low, "high": high, "n": estimate.count}
    failed = sum(record["status"] == "failed" for record in own)
    return {"loss": name, "runs": len(own), "failed": failed, "figures": found}
