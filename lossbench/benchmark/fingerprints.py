"""What makes a run another run, and what only makes its figures others.

Two fingerprints of our own code: one of what decides how a model is trained, one of what decides how it
is measured. Where only the second differs, a finished run is measured again from its weights and not trained again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lossbench
from lossbench.config import Config, Touches, settings_touching
from lossbench.models.backbones import backbone_name
from lossbench.utils.hashing import code_fingerprint, sha

#: Rooms and modules, as glob patterns below lossbench/.
TRAINING = (
    "training/*.py",
    "losses/*.py",
    "models/*.py",
    "data/batches.py",
    "data/faces.py",
    "data/orl.py",
    "data/tree.py",
    "data/packed.py",
    "data/images/*.py",
    "utils/threads.py",
    "utils/device.py",
    "utils/distributed.py",
    "utils/schedule.py",
    "utils/plugin_file.py",
)
MEASURING = (
    "evaluation/*.py",
    "metrics/*.py",
    "metrics/exact/*.py",
    "results/metric_fields.py",
    "results/metric_inputs.py",
    "benchmark/execute.py",  # which judges what was measured
)

_TRAINING_PACKAGES = ("torch", "torchvision", "timm", "pytorch-metric-learning", "pillow")
_LATER = ("sample_centers",)  # settings that older runs do not have: their hashes stay while these are not used
_MEASURING_PACKAGES = ("numpy", "scipy", "scikit-learn")


def training_protocol(
    config: Config, fingerprints: Mapping[str, str], splits: Sequence[str], device_type: str, processes: int = 1
) -> dict[str, Any]:
    """Return everything that all runs of a benchmark share and that can change what they learn.

    Args:
        config: resolved settings; `threads` is what a run on the CPU will use.
        fingerprints: SHA-256 by name; ``data`` is that of the training images, ``network`` that of the backbone's
            files, where it is one of the user's own, and ``pretrained`` that of the file of weights it starts from.
        splits: SHA-256 of the split of every fold.
        device_type: cpu or cuda.
        processes: that train a run together.
    """
    looks_ahead = config.select == "val" or config.track  # then measuring takes part in the training
    return {
        "config": _settings(config, "training"),
        "device": device_type,
        "data": fingerprints["data"],
        "network": fingerprints.get("network"),
        "pretrained": fingerprints.get("pretrained"),
        "splits": sha(list(splits)),
        "code": _code(TRAINING),
        "measuring_code": _code(MEASURING) if looks_ahead else None,
        "threads": config.threads if device_type == "cpu" else None,  # sums are split among them
        "versions": {name: _version(name) for name in _TRAINING_PACKAGES},
        **({"processes": processes} if processes > 1 else {}),  # as before there could be several
    }


def measuring_protocol(config: Config, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """Return everything that can change the figures of a model that is trained already.

    Args:
        config: resolved settings.
        fingerprints: SHA-256 by name; ``pairs`` is that of the verification pairs, where there are any.
    """
    return {
        "config": _settings(config, "measuring"),
        "pairs": fingerprints.get("pairs"),
        "code": _code(MEASURING),
        "versions": {name: _version(name) for name in _MEASURING_PACKAGES},
    }


def _settings(config: Config, touches: Touches) -> dict[str, Any]:
    """Return the settings that touch it, but for pairs, which count by their content."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(config).items()}
    values["backbone"] = config.backbone and backbone_name(config.backbone)  # files count by their content
    values["pretrained"] = config.pretrained and Path(config.pretrained).name
    unset = {name for name in _LATER if values[name] is None}
    return {name: values[name] for name in settings_touching(touches) if name not in {"pairs", *unset}}


@cache
def _code(patterns: tuple[str, ...]) -> str:
    package = Path(lossbench.__file__).parent
    return code_fingerprint({file for pattern in patterns for file in package.glob(pattern)}, package)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
