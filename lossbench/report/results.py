"""The main table of the page: a row per loss, with intervals as bars, shared ranks, survival and cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from lossbench.losses.plugin import UNTRAINED
from lossbench.report.shapes import Bar, axis_of, bar
from lossbench.report.tables import mark, text
from lossbench.report.theme import colours_of
from lossbench.results.metric_fields import metric, shown_in
from lossbench.results.store import Record
from lossbench.results.study import Study, mean
from lossbench.results.verdicts import Verdict, rank_table
from lossbench.utils.text import rate_text


class Column(NamedTuple):
    """One column of numbers: `axis` are the ends of its bars, as text, empty where it has none."""

    key: str
    group: str
    title: str
    mark: str
    topic: str
    axis: tuple[str, str] | tuple[()] = ()


class Cell(NamedTuple):
    """A number: as text, its interval as text, as what rows are sorted by (None: last), as a bar, and its rank."""

    text: str
    half: str = ""
    value: float | None = None
    bar: Bar | None = None
    rank: str = ""


class Row(NamedTuple):
    """A loss: `place` numbers it in links, `mark` says that it has no class scores."""

    name: str
    place: int
    colour: str
    mark: str
    trained: bool
    finished: int
    runs: int
    cells: tuple[Cell, ...]

    @property
    def survival(self) -> float:
        """The share of runs that finished."""
        return self.finished / self.runs


class Results(NamedTuple):
    """The table, and what is to be said of it: records that lack a figure."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """The headings above the columns, each with the number of its columns."""
        found: dict[str, int] = {}
        for column in self.columns:
            found[column.group] = found.get(column.group, 0) + 1
        return list(found.items())


_COST = (
    ("images_per_second", "images/s", "images-per-second", "{:,.0f}"),
    ("seconds", "seconds", "seconds", "{:,.1f}"),
    ("peak_memory_mib", "peak MiB", "peak-memory", "{:,.0f}"),
    ("head_parameters", "head parameters", "head", "{:,.0f}"),
)


def results(study: Study, found: Sequence[Verdict]) -> Results:
    """Return the main table of a study and its verdicts."""
    figures = shown_in("headline", fprs=study.fprs)
    ranks = shared_ranks(found)
    columns, cells = [], []
    for figure in figures:
        means = {name: study.estimate(name, figure.key) for name in study.entrants}
        intervals = {name: e.interval(*figure.limits) for name, e in means.items()}
        everything = [v for name, e in means.items() if e.count for v in (e.mean, *intervals[name])]
        axis = axis_of(everything, figure.limits)
        group = "accuracy" if figure.point is None else "ID rate @ FPR"
        title = rate_text(figure.point) if figure.point is not None else _of_accuracy(figure.title)
        topic = "id-rate" if figure.point is not None else _TOPICS.get(figure.key, "accuracy")
        ends = (f"{axis[0]:g}", f"{axis[1]:g}")
        columns.append(Column(figure.key, group, title, mark(figure, study.records).strip(), topic, ends))
        own = []
        for name, e in means.items():
            whole = text(e, figure.digits, figure.limits)
            number, _, half = whole.partition(" ")
            value = e.mean if e.count else None
            own.append(
                Cell(number, half, value, bar(e.mean, *intervals[name], axis), ranks.get((name, figure.key), ""))
            )
        cells.append(own)
    for key, title, topic, form in _COST:
        columns.append(Column(key, "cost", title, "", topic))
        cells.append([_cost_cell(study.of_entrant(name), key, form) for name in study.entrants])
    palette = colours_of(study)
    rows = [
        _row(name, place, palette[name], study.of_entrant(name), tuple(column[place] for column in cells))
        for place, name in enumerate(study.entrants)
    ]
    return Results(tuple(columns), tuple(rows), tuple(_lacking(study.records)))


def cost_of(record: Mapping[str, Any], key: str) -> float:
    """Return what a run cost; NaN where its record does not say, or says what is no number."""
    found = (record.get("timings") or {}).get(key, record.get(key))
    if isinstance(found, bool) or not isinstance(found, int | float):
        return math.nan
    return float(found) if math.isfinite(found) else math.nan


_TOPICS = {"test_accuracy": "accuracy", "test_accuracy_ncm": "class-means"}


def _of_accuracy(title: str) -> str:
    return {"accuracy": "by scores", "accuracy (class means)": "by class means"}.get(title, title)


def shared_ranks(found: Sequence[Verdict]) -> dict[tuple[str, str], str]:
    """Return each loss's rank by loss and figure, as text: ``1=`` where it is shared."""
    ranks: dict[tuple[str, str], str] = {}
    table = rank_table(found)
    for key in dict.fromkeys(v.figure.key for v in found):
        own = dict(zip(table["loss"], table[key], strict=True))
        for name, rank in own.items():
            if rank is not None:
                ranks[name, key] = f"{rank}{'=' * (list(own.values()).count(rank) > 1)}"
    return ranks


def _cost_cell(records: Sequence[Record], key: str, form: str) -> Cell:
    found = mean(cost_of(record, key) for record in records if record["status"] == "finished")
    return Cell("–") if math.isnan(found) else Cell(form.format(found), "", found)


def _row(name: str, place: int, colour: str, own: Sequence[Record], cells: tuple[Cell, ...]) -> Row:
    finished = [record for record in own if record["status"] == "finished"]
    scored = "*" if finished and finished[0]["accuracy_by"] != "logits" else ""
    return Row(name, place, colour, scored, name != UNTRAINED, len(finished), len(own), cells)


def _lacking(records: Sequence[Record]) -> list[str]:
    finished = [r for r in records if r["status"] == "finished" and r["entrant"] != UNTRAINED]
    notes = []
    for key, title, _, _ in _COST:
        lacking = sum(math.isnan(cost_of(record, key)) for record in finished)
        if lacking:
            what = metric(key).title if title == "images/s" else title
            which = "No record holds" if lacking == len(finished) else f"{lacking} of {len(finished)} records lack"
            notes.append(f"{which} {what}: older versions of lossbench did not record it.")
    return notes
