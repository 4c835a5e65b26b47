"""A card per loss: what it is, with which settings it was trained, and what happened to it."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lossbench.losses.plugin import UNTRAINED, Plugin
from lossbench.losses.registry import find_plugins
from lossbench.report.explain import topic_of
from lossbench.report.page.drawings import Drawing, passport_drawings, training_drawings
from lossbench.report.tables import failures, text
from lossbench.report.theme import colours_of
from lossbench.results.metric_fields import metric, shown_in
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.utils.text import clipped


class Described(NamedTuple):
    """One loss of a spec as its plugin's docstrings read: paper and formula; its name alone where it is not shipped."""

    name: str
    paper: str
    formula: str


class Card(NamedTuple):
    """What the page tells of one loss. `facts` are label, glossary topic and text; `runs` folder, state and note."""

    name: str
    place: int
    colour: str
    described: tuple[Described, ...]
    settings: tuple[tuple[str, str], ...]
    facts: tuple[tuple[str, str, str], ...]
    failures: tuple[str, ...]
    drawings: tuple[Drawing, ...]
    without: str
    runs: tuple[tuple[str, str], ...]


def cards(study: Study, on_card: Callable[[], None] = lambda: None) -> list[Card]:
    """Return a card per loss, the untrained backbone's last. Executes shipped plugins alone, to draw their passports.

    Args:
        study: the runs.
        on_card: called after each card.

    Raises:
        InputError: a run's history is damaged.
    """
    known, palette = find_plugins(), colours_of(study)
    made = []
    for place, name in enumerate(study.entrants):
        own = study.of_entrant(name)
        passports, why = passport_drawings(own[0], known) if name != UNTRAINED else ((), "")
        made.append(
            Card(
                name,
                place,
                palette[name],
                tuple(described(name, known)),
                tuple(_settings(own[0])),
                tuple(_facts(study, name, own)),
                tuple(failures(own)),
                (*training_drawings(own), *passports),
                why,
                tuple(_runs(own)),
            )
        )
        on_card()
    return made


def described(entrant: str, known: Mapping[str, Plugin]) -> list[Described]:
    """Return what the shipped plugins say of the losses in a spec's text; the text is only compared, never parsed.

    Example:
        >>> [one.name for one in described("arcface:margin=0.3+0.5*./mine.py", find_plugins())]
        ['arcface', './mine.py']
    """
    if entrant == UNTRAINED:
        return [Described(entrant, "The same backbone before its first step.", "")]
    found = []
    for part in re.split(r"(?<![0-9.][eE])\+", entrant):
        name = re.sub(r"^[0-9.eE+-]+\*", "", part)
        name = ":".join(name.split(":")[: 2 if name.startswith("pml:") else 1])
        plugin = known.get(name)
        found.append(Described(name, plugin.reference, plugin.summary) if plugin else Described(name, "", ""))
    return found


def _settings(record: Record) -> list[tuple[str, str]]:
    found = record.get("hyperparameters")
    return [(clipped(str(k)), _value(v)) for k, v in found.items()] if isinstance(found, dict) else []


def _value(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else clipped(str(value))


def _facts(study: Study, name: str, own: Sequence[Record]) -> list[tuple[str, str, str]]:
    finished = [record for record in own if record["status"] == "finished"]
    sampler = next((str(record["sampler"]) for record in finished if record.get("sampler")), "–")
    facts = [("finished runs", "survival", f"{len(finished)} of {len(own)}"), ("batches", "batches", sampler)]
    for figure in (*shown_in("angles"), metric("effective_rank"), metric("train_effective_rank")):
        found = study.estimate(name, figure.key)
        if found.count and not math.isnan(found.mean):
            unit = " (°)" if figure.unit == "degrees" else ""
            facts.append((figure.title + unit, topic_of(figure.key), text(found, figure.digits, figure.limits)))
    return facts


def _runs(own: Sequence[Record]) -> list[tuple[str, str]]:
    return [
        (Path(str(record.get("folder", ""))).name, f"repeat {record['repeat'] + 1}, {record['status']}")
        for record in own
    ]
