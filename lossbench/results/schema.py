"""What a run.json must hold before anything is computed with it: it may have come from anybody."""

from collections.abc import Callable, Mapping
from typing import Any

#: a test of a value; what a list's items must be; or what a dictionary's keys must hold ("*": all others)
Shape = Callable[[Any], bool] | list["Shape"] | Mapping[str, "Shape"]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _switch(value: Any) -> bool:
    return isinstance(value, bool)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**1000


def _rate(value: Any) -> bool:
    return _number(value) and 0 < value < 1


def _figure(value: Any) -> bool:
    return value is None or _number(value)


def _figure_or_group(value: Any) -> bool:
    return isinstance(value, dict | list) or _figure(value)


_PARTS: Shape = dict.fromkeys(("train", "val", "test", "query", "distractors"), _count)
_SEARCH: Shape = {"entries": _count, "*": _figure}
_METRICS: dict[str, Shape] = {
    "cmc?": {"without_distractors": _SEARCH, "with_distractors": _SEARCH},
    "probes?": _count,
    "calibration_negatives?": _count,
    "threshold_transfer?": [{"fpr": _rate, "tpr": _figure, "achieved_fpr": _figure}],
    "open_set?": [{"far": _rate, "rate": _figure}],
    **{f"{group}?": {"*": _figure} for group in ("retrieval", "clusters", "train_angles", "query_angles")},
    "verification?": {
        "same": _count,
        "different": _count,
        "fold_accuracies": [_figure],
        "flip": _switch,
        "*": _figure,
    },
    "*": _figure_or_group,
}
_MEASURED: dict[str, Shape] = {
    **dict.fromkeys(("positives", "negatives", "query_negatives"), _count),
    "identification": [{"fpr": _rate, "tpr": _figure, "achieved_fpr": _figure}],
}
_RECORD: dict[str, Shape] = {
    "status": lambda value: value in ("finished", "failed"),
    **dict.fromkeys(("entrant", "split", "protocol_hash", "data"), _text),
    **dict.fromkeys(("repeat", "epoch"), _count),
    **dict.fromkeys(("reason?", "sampler?", "accuracy_by?"), _text),
    "metrics": _METRICS,
    "timings": {"*": _figure},
    "people": _PARTS,
    "images": _PARTS,
    "machine": {},
}
_FINISHED: dict[str, Shape] = {"accuracy_by": _text, "metrics": _MEASURED}
_FAILED: dict[str, Shape] = {"reason": _text}


def fault_of(record: Mapping[str, Any]) -> str | None:
    """Return where a record is not what a run writes (``metrics.cmc``), or None: it can be computed with.

    Args:
        record: the content of a run.json.
    """
    found = _fault(record, _RECORD, "")
    return found or _fault(record, _FINISHED if record["status"] == "finished" else _FAILED, "")


def _fault(value: Any, shape: Shape, at: str) -> str | None:
    """Return the first place that is wrong. A key with ``?`` may be missing or null."""
    if isinstance(shape, list):
        inside = [(f"{at}.{i}", item, shape[0]) for i, item in enumerate(value)] if isinstance(value, list) else None
    elif isinstance(shape, Mapping):
        inside = _entries(value, shape, f"{at}." if at else "") if isinstance(value, dict) else None
    else:
        return None if shape(value) else at
    if inside is None:
        return at
    return next((found for place, item, own in inside if (found := _fault(item, own, place))), None)


def _entries(value: Mapping[str, Any], shape: Mapping[str, Shape], at: str) -> list[tuple[str, Any, Shape]]:
    named = {key.removesuffix("?") for key in shape}
    found = [(f"{at}{key}", item, shape["*"]) for key, item in value.items() if "*" in shape and key not in named]
    for key, own in shape.items():
        name = key.removesuffix("?")
        if name != "*" and not (key.endswith("?") and value.get(name) is None):
            found.append((f"{at}{name}", value.get(name), own))
    return found
