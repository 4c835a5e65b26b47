"""What differs between benchmarks: settings, people, pairs, versions and losses, by name."""

from collections.abc import Iterator
from typing import Any

from lossbench.config import SETTINGS
from lossbench.report.compare.comparison import Benchmark, Comparison
from lossbench.report.markup import Part
from lossbench.report.provenance import ELSEWHERE, machine_of
from lossbench.utils.text import clipped, listed

_OTHERWISE_SAID = (*ELSEWHERE, "losses", "name", "threads", "plugins", "keep_embeddings")
_PARTS = ("train", "val", "test", "query", "distractors")


def differences_part(comparison: Comparison) -> Part:
    """Return a table with a row for whatever is not the same in all benchmarks, and a column for each of them."""
    columns = [dict(_facts(one)) for one in comparison.benchmarks]
    rows = [
        [what, *values]
        for what in dict.fromkeys(what for facts in columns for what in facts)
        if len(set(values := [facts.get(what, "–") for facts in columns])) > 1
    ]
    told = "All else that is recorded is the same." if rows else "Nothing that is recorded differs."
    return Part(
        "What differs",
        (),
        ["what", *comparison.labels] if rows else (),
        rows,
        (told, *_losses(comparison)),
    )


def _facts(one: Benchmark) -> Iterator[tuple[str, str]]:
    """Yield what is compared of a benchmark, each with its name."""
    for name in (name for name in SETTINGS if name not in _OTHERWISE_SAID):
        yield SETTINGS[name].option, _text(one.findings.settings.get(name))
    records = one.study.records
    first = next((record for record in records if record["status"] == "finished"), records[0])
    for part in _PARTS:
        yield f"people of {part}", f"{first['people'][part]:,}"
        yield f"images of {part}", f"{first['images'][part]:,}"
    for key, title in (("positives", "same-person pairs"), ("negatives", "different-person pairs")):
        if (count := first["metrics"].get(key)) is not None:
            yield title, f"{count:,}"
    yield "repeats done", str(len({record["repeat"] for record in records}))
    for key in ("lossbench", "python", "device", "threads"):
        found = dict.fromkeys(str(machine_of(record, key)) for record in records if machine_of(record, key) is not None)
        yield f"{key} of the runs", clipped(", ".join(found))
    protocol = first.get("protocol")
    for key, title in (("data", "fingerprint of the images"), ("code", "fingerprint of the training code")):
        yield title, clipped(str(protocol.get(key) if isinstance(protocol, dict) else None), 12)


def _text(value: Any) -> str:
    if value is None or value == []:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return clipped(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _losses(comparison: Comparison) -> list[str]:
    """Say which losses are compared, which are not, and which changed between the benchmarks."""
    lines = [f"Compared: {listed(comparison.losses)}."]
    for one in comparison.benchmarks:
        if others := [name for name in one.study.trained if name not in comparison.losses]:
            lines.append(f"{one.label} also has {listed(others)}.")
    changed = [name for name in comparison.losses if len({_plugin(one, name) for one in comparison.benchmarks}) > 1]
    if changed:
        lines.append(f"The code of {listed(changed)} has changed between the benchmarks.")
    return lines


def _plugin(one: Benchmark, name: str) -> str:
    return str(one.study.of_entrant(name)[0].get("plugin"))
