"""What a run.json must hold before anything is computed from it: the file is untrusted."""

from collections.abc import Callable, Mapping
from typing import Any

from lossbench.results.metric_fields import at, table_at

#: a test of a value; what a list's items must be; or what a dictionary's keys must hold ("*": all others)
Shape = Callable[[Any], bool] | list["Shape"] | Mapping[str, "Shape"]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**1000


def _figure(value: Any) -> bool:
    return value is None or _number(value)


_PARTS: Shape = dict.fromkeys(("train", "val", "test", "query", "distractors"), _count)
_METRICS: dict[str, Shape] = {
    **{f"{metric.key}?": _count for metric in table_at() if metric.unit == "count"},
    "*": _figure,
}
_MEASURED: dict[str, Shape] = dict.fromkeys(("positives", "negatives", "query_negatives"), _count)
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
    "measuring?": {"config?": {}},
}
_FINISHED: dict[str, Shape] = {"accuracy_by": _text, "metrics": _MEASURED}
_FAILED: dict[str, Shape] = {"reason": _text}


SCHEMA = 2


def upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as this version writes it: schema 1 kept its figures in groups, and the settings of all in one.

    Raises:
        KeyError, TypeError, ValueError, AttributeError: it is not what schema 1 was.
    """
    if record["schema"] != 1:
        return record
    config = (record.get("protocol") or {}).get("config") or {}
    measuring = {"config": {"flip": config.get("flip")}}
    return {**record, "schema": SCHEMA, "metrics": _flat(record.get("metrics") or {}), "measuring": measuring}


def _flat(metrics: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in metrics.items() if not isinstance(value, dict | list)}
    for point in metrics.get("identification") or ():
        flat[at("tpr", point["fpr"])] = point["tpr"]
        flat[at("achieved_fpr", point["fpr"])] = point["achieved_fpr"]
    for point in metrics.get("threshold_transfer") or ():
        flat[at("transfer_fpr", point["fpr"])] = point["achieved_fpr"]
        flat[at("transfer_tpr", point["fpr"])] = point["tpr"]
    flat |= {at("dir", point["far"]): point["rate"] for point in metrics.get("open_set") or ()}
    for search, rates in (metrics.get("cmc") or {}).items():
        ranks = {f"cmc{rank}_{search}": value for rank, value in rates.items() if rank != "entries"}
        flat |= {**ranks, f"entries_{search}": rates["entries"]}
    for group, prefix in _GROUPS.items():
        own = metrics.get(group) or {}
        flat |= {f"{prefix}{key}": value for key, value in own.items() if key not in ("fold_accuracies", "flip")}
        if "fold_accuracies" in own:
            flat["verification_folds"] = len(own["fold_accuracies"])
    return flat


_GROUPS = {
    "retrieval": "",
    "clusters": "",
    "verification": "verification_",
    "train_angles": "train_",
    "query_angles": "query_",
}


def fault_of(record: Mapping[str, Any]) -> str | None:
    """Return the first place where a record is not what a run writes (``metrics.probes``), or None if it can be used.

    Args:
        record: the content of a run.json.
    """
    found = _fault(record, _RECORD, "")
    return found or _fault(record, _FINISHED if record["status"] == "finished" else _FAILED, "")


def fault_in(value: Any, shape: Shape) -> str | None:
    """Return the first place where a value is not of a shape, or None; the empty text is the value itself."""
    return _fault(value, shape, "")


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
