"""What an exported model says of itself: its input and output, how it was trained, and thresholds with their basis."""

import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossbench.data.prepare.align import CROPS, template
from lossbench.data.split_file import SplitFile
from lossbench.errors import InputError
from lossbench.metrics.operating_point import allowed
from lossbench.models.export import INPUT, OUTPUT
from lossbench.results.metric_fields import at, own_fprs
from lossbench.results.schema import fault_in
from lossbench.results.store import Record
from lossbench.results.weights import built_as, own_network
from lossbench.utils.machine import lossbench_version

SCHEMA = 1
UNSEEN, VAL = "query and distractors", "val"  # whose pairs a threshold was set on
_LICENCE = "the licence of the data that this model was trained on is for you to check"


def facts_of(record: Record) -> dict[str, Any]:
    """Return the metadata of a finished run's model, ready for JSON.

    Raises:
        RunDamaged: the record does not say what was trained.
    """
    built = built_as(record)
    side, length = built["image_size"], built["embedding_dim"]
    return {
        "schema": SCHEMA,
        "lossbench": lossbench_version(),
        "input": {
            "name": INPUT, "shape": ["batch", 3, side, side], "type": "uint8", "range": [0, 255], "channels": "RGB",
        },
        "output": {"name": OUTPUT, "shape": ["batch", length], "type": "float32", "norm": 1},
        "alignment": _alignment(record, side),
        "model": {
            "loss": record["entrant"],
            "hyperparameters": record.get("hyperparameters"),
            **{name: built[name] for name in ("backbone", "image_size", "embedding_dim", "dropout")},
            "network": own_network(record),
        },
        "run": {
            **{name: record.get(name) for name in ("hash", "repeat", "fold", "seed", "data", "split", "split_file")},
            "people": record["people"],
        },
        "operating_points": [point for fpr in own_fprs(record["metrics"]) if (point := _point(record, fpr))],
        "lowest_fpr": _figure(record, "lowest_fpr"),
        "licence": _LICENCE,
    }  # fmt: skip


def _point(record: Record, fpr: float) -> dict[str, Any] | None:
    """Return the thresholds at a rate, set on unseen people and on val; None where the first is not supported."""
    threshold, negatives = _figure(record, at("threshold", fpr)), record["metrics"]["negatives"]
    if threshold is None:
        return None
    transferred = _figure(record, at("transfer_threshold", fpr))
    calibration = record["metrics"].get("calibration_negatives")
    return {
        "fpr": fpr,
        "threshold": threshold,
        "set_on": UNSEEN,
        "negatives": negatives,
        "deciding": allowed(fpr, negatives),
        "tpr": _figure(record, at("tpr", fpr)),
        "transfer": None
        if transferred is None or calibration is None
        else {
            "set_on": VAL,
            "threshold": transferred,
            "negatives": calibration,
            "fpr": _figure(record, at("transfer_fpr", fpr)),
            "tpr": _figure(record, at("transfer_tpr", fpr)),
        },
    }


def _figure(record: Record, key: str) -> float | None:
    value = record["metrics"].get(key)
    return None if value is None or math.isnan(value) else value


def _alignment(record: Record, side: int) -> dict[str, Any]:
    """Return how the images were cropped, as far as the data that the run was trained on can still be seen to say."""
    crop = _crop(record)
    if crop is None:
        whole = "the centre square of whole faces, not aligned"
        said = whole if record["data"] == "orl" else "aligned as the images that it was trained on; the centre square"
        return {"template": None, "said": said}
    points = [[round(float(x), 4), round(float(y), 4)] for x, y in template(side, crop)]
    said = f"five landmarks on the template '{crop}' at {side} px, by a similarity"
    return {"template": crop, "points": points, "said": said}


def _crop(record: Record) -> str | None:
    """Return the crop of the prepared set that a run was trained on; None where that is not there, or has changed."""
    if not record.get("split_file"):
        return None
    settings = Path(record["folder"]).resolve().parents[1] / "benchmark.toml"
    try:
        data = tomllib.loads(settings.read_text(encoding="utf-8"))["data"]
        found = SplitFile.of(Path(data))
    except (OSError, ValueError, KeyError, TypeError):  # an InputError, too: the model is as good without
        return None
    if found is None or found.sha256 != record["split_file"]:
        return None
    parameters = found.content.get("parameters")
    crop = parameters.get("crop") if isinstance(parameters, dict) else None
    return crop if crop in CROPS else None


def read_facts(text: str | bytes | None, where: str) -> dict[str, Any]:
    """Return the metadata of a model's file, which is untrusted.

    Args:
        text: its JSON; None where the file has none.
        where: the file, for messages.

    Raises:
        InputError: there is none, it is damaged, or of a newer lossbench.
    """
    if text is None:
        raise InputError(
            f"{where} has no metadata of lossbench, and so no thresholds; make it with: lossbench export RUN"
        )
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"the metadata of {where} is damaged ({error}); export the run again") from error
    if isinstance(facts, dict) and type(facts.get("schema")) is int and facts["schema"] > SCHEMA:
        raise InputError(f"{where} has schema {facts['schema']}, this lossbench reads {SCHEMA}; upgrade lossbench")
    if (fault := fault_in(facts, _FACTS)) is not None:  # the empty text is the whole
        raise InputError(f"the metadata of {where} has no proper '{fault}'; export the run again")
    return dict(facts)


def _integer(least: int, most: int) -> Any:
    return lambda value: type(value) is int and least <= value <= most


def _real(least: float, most: float) -> Any:
    return lambda value: type(value) in (int, float) and least <= value <= most


def _text(value: Any) -> bool:
    return isinstance(value, str)


_SHARE, _COSINE, _PAIRS = _real(0, 1), _real(-1, 1), _integer(0, 2**53)
_FACTS: Mapping[str, Any] = {
    "schema": _integer(1, SCHEMA),
    "lossbench": _text,
    "alignment": {"said": _text},
    "model": {
        "loss": _text,
        "backbone": _text,
        "image_size": _integer(8, 1024),
        "embedding_dim": _integer(1, 2**16),
        "dropout": _real(0, 0.999),
        "network?": _text,
    },
    "run": {"hash?": _text, "repeat": _integer(0, 2**31), "people": {"*": _PAIRS}},
    "operating_points": [
        {
            "fpr": _SHARE,
            "threshold": _COSINE,
            "set_on": _text,
            "negatives": _PAIRS,
            "deciding": _PAIRS,
            "tpr?": _SHARE,
            "transfer?": {"set_on": _text, "threshold": _COSINE, "negatives": _PAIRS, "fpr?": _SHARE, "tpr?": _SHARE},
        }
    ],
    "lowest_fpr?": _SHARE,
}
