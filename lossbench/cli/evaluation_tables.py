"""What `evaluate` prints and writes of its figures: tables, notes and JSON."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lossbench.utils.text import listed, rate_text, shown

if TYPE_CHECKING:
    from lossbench.cli.evaluation_request import Request
    from lossbench.data.templates import TemplateSet
    from lossbench.evaluation.evaluate import Evaluation
    from lossbench.evaluation.pair_lists import PairList
    from lossbench.results.metric_fields import Metric
    from lossbench.results.store import Record

Table = tuple[list[str], list[list[str]]]
_FAR = 0.001  # of the TAR of verification lists
_ALIKE = 1e-12  # resamples that spread less are all the same but for rounding


def shown_figures(found: "Sequence[Evaluation]") -> "list[Metric]":
    """Return the figures of unseen people that the table shows."""
    from lossbench.results.metric_fields import own_fprs, shown_in

    figures = shown_in("evaluate", fprs=own_fprs(found[0].figures))
    return [figure for figure in figures if figure.key in found[0].figures]


def as_records(found: "Sequence[Evaluation]") -> list[dict[str, Any]]:
    """Return the evaluations as the marks of thin operating points read them."""
    return [{"status": "finished", "metrics": one.figures} for one in found]


def figure_table(found: "Sequence[Evaluation]", figures: "Sequence[Metric]") -> Table:
    """Return headers and rows: a model per row, a figure per column."""
    from lossbench.report.tables import heading
    from lossbench.results.metric_fields import flat_metrics

    rows = []
    for one, name in zip(found, names(found), strict=True):
        flat, spread = flat_metrics({"metrics": one.figures}), _spread_of(one)
        cells = [_cell(flat[figure.key], spread.get(figure.key, 0.0), figure) for figure in figures]
        rows.append([name, *cells])
    return ["run", *(heading(figure, as_records(found)) for figure in figures)], rows


def _cell(value: float, spread: float | None, figure: "Metric") -> str:
    """Return a value with its interval, if its spread is not 0; with a dash for it, where it cannot be estimated."""
    from lossbench.report.tables import with_interval

    if math.isnan(value):
        return "–"
    text = with_interval(value, 1.96 * spread if spread else math.nan, figure.digits, figure.limits)
    return f"{text} ± –" if spread is None else text


def _spread_of(one: "Evaluation") -> dict[str, float | None]:
    """Return the spread of each figure that is resampled; None where resamples do not show it.

    Those of a few people are often all alike, or none of them has negatives: that is not certainty.
    """
    return {key: spread if spread > _ALIKE else None for key, spread in one.spread.items()}


def spread_lines(found: "Sequence[Evaluation]", figures: "Sequence[Metric]") -> list[str]:
    """Return the line that explains a dash after ±, if a table of these figures has one."""
    unknown = any(cell.endswith("± –") for _, *cells in figure_table(found, figures)[1] for cell in cells)
    return ["± –: not estimated, as all resamples of these people give the same value or none; it is not 0"] * unknown


def pair_table(found: "Sequence[Evaluation]") -> Table:
    """Return headers and rows: a model per row; per list a column of accuracy, and of TAR where the pairs support it.

    Accuracy is the mean over folds ± their standard deviation, as papers report it.
    """
    from lossbench.evaluation.pair_lists import standard_deviation
    from lossbench.metrics.operating_point import is_supported, is_thin

    def negatives(name: str) -> int:
        return int(found[0].pairs[name]["verification_different"])

    lists = list(found[0].pairs)
    rated = [name for name in lists if is_supported(_FAR, negatives(name))]
    tar = [f"{name} TAR @ FAR {_FAR:g}" + " †" * is_thin(_FAR, negatives(name)) for name in rated]
    rows = []
    for one, title in zip(found, names(found), strict=True):
        own = one.pairs
        accuracy = [f"{own[k]['verification_accuracy']:.4f} ± {standard_deviation(own[k]):.4f}" for k in lists]
        rows.append([title, *accuracy, *(f"{own[k]['verification_tar']:.3f}" for k in rated)])
    return ["run", *lists, *tar], rows


PAIRS_MEANING = (
    "accuracy over folds ± the standard deviation of the folds, as papers report it; TAR @ FAR: share of same-person "
    "pairs accepted at this false-accept rate, over all pairs of a list"
)


def pair_lines(lists: "Sequence[PairList]", found: "Sequence[Evaluation]") -> list[str]:
    """Return a line on each list: its pairs, folds and images; and why it has no TAR, or a thin one."""
    from lossbench.metrics.operating_point import ENOUGH, allowed, is_supported, is_thin

    lines = []
    for one in lists:
        figures = found[0].pairs[one.name]
        same, different = figures["verification_same"], figures["verification_different"]
        folds, images = figures["verification_folds"], len(one.pairs.files)
        line = (
            f"{shown(one.name)}: {same:,} pairs of one person, {different:,} of two; {folds} folds, {images:,} images"
        )
        if not is_supported(_FAR, different):
            line += f"; too few pairs of two people for TAR @ FAR {_FAR:g}, which needs {round(1 / _FAR):,}"
        elif is_thin(_FAR, different):
            line += f" († thin: {allowed(_FAR, different)} of them decide TAR @ FAR {_FAR:g}, fewer than {ENOUGH})"
        lines.append(line)
    return lines


TEMPLATES_MEANING = (
    "template: media of one person, the images of each averaged, added up; TAR @ FAR: share of same-person pairs of "
    "templates accepted at this false-accept rate"
)


def template_lines(templates: "TemplateSet") -> list[str]:
    """Return what a 1:1 list of templates consists of, and what its ± is, or why it has none."""
    from lossbench.metrics.operating_point import negatives_needed

    positives = int(templates.same.sum())
    negatives = len(templates.same) - positives
    people = "" if templates.people is None else f" of {len(set(templates.people)):,} people"
    lines = [
        f"{len(templates.ids):,} templates{people}: {templates.media_count:,} media, {len(templates.files):,} images; "
        f"{positives:,} same-person pairs, {negatives:,} different-person pairs, which support no FAR below "
        f"{rate_text(1 / negatives, digits=2)} (1e-5 needs {negatives_needed(1e-5):,})"
    ]
    if templates.people is None:
        lines.append(
            "no ±: the list does not say who is on each template; a CSV with the column person does, and people are "
            "then resampled"
        )
    else:
        lines.append("± is 1.96 standard deviations over resamples of these people, without the spread between seeds")
    if templates.weights is not None:
        lines.append("image features are multiplied by the scores of the list")
    return lines


def names(found: "Sequence[Evaluation]") -> list[str]:
    """Return what models are called, those of one name with their benchmark or, where that is the same, their place."""
    titles = [_title(one) for one in found]
    for depth in (1, 0):  # parts of results/BENCHMARK/runs/RUN
        clashing = {name for name, count in Counter(titles).items() if count > 1}
        places = [one.source.parents[depth] if depth and one.record else one.source for one in found]
        titles = [
            f"{_title(one)} ({place})" if name in clashing else name
            for one, name, place in zip(found, titles, places, strict=True)
        ]
    return titles


def _title(one: "Evaluation") -> str:
    return _name(one.record) if one.record else one.source.name


def _name(record: "Record") -> str:
    return f"{record['entrant']} r{record['repeat']}"


def unlisted_note(records: "Sequence[Record]") -> str:
    """Return that it is not known whether these people are among those of the training."""
    have, their = ("have", "their") if len(records) > 1 else ("has", "its")
    lists = f"{have} no embeddings.npz, which lists {their} training people"
    return f"note: {_few(records)} {lists}: whether these are among them is not known"


def _few(records: "Sequence[Record]") -> str:
    return ", ".join(_name(record) for record in records[:3]) + (f" and {len(records) - 3} more" if records[3:] else "")


def names_note(known: tuple[str, ...], records: "Sequence[Record]") -> str:
    """Return how many names also occur in the training sets of these runs."""
    named = ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
    occur = "names also occur" if len(known) > 1 else "name also occurs"
    return f"note: {len(known)} {occur} in the training set{'s' * (len(records) > 1)} of {_few(records)} ({named})"


def training_notes(found: "Sequence[Evaluation]") -> list[str]:
    """Return notes on which of the people may have been in the training of which run."""
    notes = []
    if seen := [(one.record, one.known) for one in found if one.record and one.known]:
        known = tuple(sorted({name for _, own in seen for name in own}))
        note = names_note(known, [record for record, _ in seen])
        notes.append(f"{note}; if they are the same people, these are not figures of unseen people")
    if unseen_in := [one.record for one in found if one.record and one.known is None]:
        notes.append(unlisted_note(unseen_in))
    if files := [one.source.name for one in found if one.record is None]:
        says = "list the people of its training" if len(files) == 1 else "list the people of their training"
        notes.append(f"note: {listed(files)} do{'es' * (len(files) == 1)} not {says}: these may be among them")
    return notes


def people_title(figures: Mapping[str, Any], people: int) -> str:
    """Return how many people and pairs the figures of unseen people are of."""
    lowest = f", lowest FPR {rate_text(figures['lowest_fpr'], digits=2)}" if figures["lowest_fpr"] else ""
    pairs = f"{figures['positives']:,} same-person pairs, {figures['negatives']:,} different-person pairs"
    return f"{people} query people, {pairs}{lowest}"


def as_json(one: "Evaluation", asked: "Request", left_out: int) -> dict[str, Any]:
    """Return what is written of a model's evaluation, from which so many images were left out."""
    record, data = one.record or {}, asked.data
    return {
        "run": str(one.source),
        "entrant": record.get("entrant"),
        "repeat": record.get("repeat"),
        "hash": record.get("hash"),
        "data": None if data is None else str(data.resolve()),
        "flip": asked.flip,
        "template_norms": asked.templates.norms,
        "images_left_out": left_out,
        "people_with_names_of_the_training": None if one.known is None else list(one.known),
        "metrics": one.figures,
        "spread_over_people": _spread_of(one),
        "pairs": one.pairs,
        "fed": one.fed or None,
    }
