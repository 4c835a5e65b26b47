"""Runs that are repeats of each other, measured on other people, as studies that verdicts can be given on."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lossbench.evaluation.evaluate import Evaluation
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.utils.hashing import sha
from lossbench.utils.text import listed


def studies(
    found: Sequence[Evaluation], people: int, *, on_note: Callable[[str], None] = lambda note: None
) -> list[Study]:
    """Group evaluations on the same people by how their runs were trained, and keep groups with losses to compare.

    Args:
        found: the evaluations, of whatever benchmarks; those of models' files are left out.
        people: how many query people they were measured on.
        on_note: called with a line for every group that is left out, because it holds two runs of one loss in one
            repeat, or one loss with two versions of its plugin.
    """
    groups: dict[str, list[tuple[Evaluation, Record]]] = {}
    for one in found:
        if (record := one.record) is not None:
            trained = record.get("protocol") or record["protocol_hash"]  # how it was measured then does not matter
            groups.setdefault(sha([trained]), []).append((one, record))
    kept = []
    for group in groups.values():
        runs = Counter((record["entrant"], record["repeat"]) for _, record in group)
        (entrant, repeat), most = runs.most_common(1)[0]
        versions = Counter(name for name, _ in {(record["entrant"], record.get("plugin")) for _, record in group})
        edited = sorted(name for name, count in versions.items() if count > 1)
        study = Study(
            tuple(_record(record, one.figures, people) for one, record in group),
            {(record["entrant"], record["repeat"]): one.resamples for one, record in group},
        )
        if most > 1:
            on_note(
                f"note: {entrant} has {most} runs of repeat {repeat + 1}, so these losses are not compared; name only "
                "one of them"
            )
        elif edited:
            on_note(
                f"note: the plugin of {listed(edited)} was edited between these runs, so these losses are not "
                "compared; name only runs of one version"
            )
        elif len(study.trained) > 1:
            kept.append(study)
    return kept


def _record(run: Record, figures: dict[str, Any], people: int) -> dict[str, object]:
    """Return a record as studies read it, with the figures on these people."""
    own = {name: run[name] for name in ("entrant", "repeat", "status")}
    same = {"data": "", "split": ""}  # all repeats are measured on these people
    return {**own, **same, "metrics": figures, "people": {"query": people, "test": 0}}
