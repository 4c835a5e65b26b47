"""The small drawings of a loss's card: its training curves, and its gradient angle by angle."""

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

from lossbench.errors import InputError
from lossbench.losses.plugin import Plugin
from lossbench.losses.registry import shipped_plugins
from lossbench.report.shapes import Box
from lossbench.results.history import read_history, relative_losses
from lossbench.results.store import Record

_STEPS = 91  # angles, every 2 degrees
_BESIDE = ("ce", "arcface")
_LARGEST = 100  # of a hyper-parameter that counts something: a record from elsewhere may ask for any memory


class Line(NamedTuple):
    """One line: its points in the box, and its part in the drawing (own, one of several; only; beside, another's)."""

    points: str
    kind: str


class Drawing(NamedTuple):
    """A small drawing: lines in a box, and the ends of both axes as text."""

    title: str
    topic: str
    lines: tuple[Line, ...]
    x: tuple[str, str, str]
    y: tuple[str, str]
    note: str = ""


def training_drawings(own: Sequence[Record]) -> list[Drawing]:
    """Return loss relative to its first epoch, and accuracy on val, by epoch: a line per repeat.

    Raises:
        RunDamaged: a run's history is damaged.
    """
    histories = [lines for record in own if (lines := read_history(record))]
    if not histories:
        return []
    last = max(line["epoch"] for lines in histories for line in lines)
    losses = [relative_losses(lines) for lines in histories]
    kept = [value for one in losses for value in one if math.isfinite(value) and value > 0]
    floor = min([*kept, 0.1])
    across = ("1", "epoch", str(last))
    low, high = 10.0 ** math.floor(math.log10(floor)), max([*kept, 1.0])
    boxes = Box(1, last, low, high, log=True), Box(1, last, 0, 1)
    epochs = [[line["epoch"] for line in lines] for lines in histories]
    fall = tuple(Line(boxes[0].points(x, y), "own") for x, y in zip(epochs, losses, strict=True))
    vals = tuple(
        Line(boxes[1].points(x, [line["val_accuracy"] for line in lines]), "own")
        for x, lines in zip(epochs, histories, strict=True)
    )
    return [
        Drawing("training loss, relative, log", "training-curve", fall, across, (f"{low:g}", f"{high:.2g}")),
        Drawing("accuracy on val", "accuracy", vals, across, ("0", "1")),
    ]


def passport_drawings(record: Record, known: Mapping[str, Plugin]) -> tuple[tuple[Drawing, ...], str]:
    """Return the gradient of a loss by own-class angle beside those of CE and ArcFace, or why there is none.

    Only a plugin that is shipped with this lossbench, and is the one that was trained, is executed: the record is
    untrusted. Files that it names are not opened.
    """
    name = str(record["entrant"])
    parts = [part.rpartition("*")[2].split(":")[0] for part in name.split("+")]
    shipped = shipped_plugins()
    if any(part not in known or known[part].path.parent != shipped for part in parts):
        return (), "No passport: this plugin is not shipped with lossbench; run lossbench passport on it."
    from lossbench.losses.loading import trial_head
    from lossbench.losses.spec import parse_spec
    from lossbench.utils.plugin_file import plugin_fingerprint

    try:
        spec = parse_spec(name, known)
        counts = [v for term in spec.terms for v in term.values.values() if isinstance(v, int)]
        if max(counts, default=0) > _LARGEST or len(spec.terms) > len(known):
            return (), f"No passport: a hyper-parameter counts more than {_LARGEST}."
        if plugin_fingerprint(trial_head(spec)) != record.get("plugin"):
            return (), "No passport: the plugin has changed since these runs were trained."
        own = _gradient(str(spec))
    except InputError as error:
        return (), f"No passport: {error}."
    if own is None:
        return (), "No passport: the loss has no class centers, so there is no own-class angle."
    beside = [(other, _gradient(other)) for other in _BESIDE if other != str(spec)]
    curves = [*((curve, "beside") for _, curve in beside if curve), (own, "only")]
    top = max(value for curve, _ in curves for value in curve if math.isfinite(value)) or 1.0
    box, degrees = Box(0, 180, 0, top), [180 * i / (_STEPS - 1) for i in range(_STEPS)]
    lines = tuple(Line(box.points(degrees, curve), kind) for curve, kind in curves)
    note = f"Dashed: {' and '.join(other for other, _ in beside)}."
    title = "passport: gradient"
    return (Drawing(title, "passport", lines, ("0°", "own angle", "180°"), ("0", f"{top:.3g}"), note),), ""


@cache
def _gradient(text: str) -> tuple[float, ...] | None:
    """Return the gradient's norm times the embedding's at every angle; None for a loss without class centers.

    Raises:
        InputError: the loss cannot be measured.
    """
    from lossbench.conformance.check import one_thread
    from lossbench.conformance.passport import measure_curve
    from lossbench.conformance.probe import Subject, examined
    from lossbench.losses.registry import find_plugins
    from lossbench.losses.spec import parse_spec

    spec = parse_spec(text, find_plugins())
    subject = examined(spec) if text not in _BESIDE else Subject(spec)
    if subject.head().class_centers() is None:
        return None
    with one_thread():
        return tuple(measure_curve(subject, _STEPS).gradient.tolist())
