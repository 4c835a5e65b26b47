"""What a benchmark consists of: its runs, each with everything that can change its result hashed."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.config import Config
from lossbench.data.faces import FaceSet
from lossbench.losses.loading import hyperparameters, load_head, plugin_fingerprint
from lossbench.losses.plugin import UNTRAINED
from lossbench.losses.spec import Spec
from lossbench.results.store import Record, read_record, run_folder
from lossbench.utils.hashing import sha

if TYPE_CHECKING:
    pass

# What does not change what a run finds: which entrants, how many repeats, where things lie; threads are hashed apart.
_NOT_HASHED = ("losses", "repeats", "out", "plugins", "data", "device", "pairs", "jobs", "threads", "deconfound")
# Our modules that make the numbers, beside metrics/: a change of one makes every run another.
_MAKE_NUMBERS = (
    "head",
    "blocks",
    "building",
    "networks",
    "backbones",
    "train",
    "measure",
    "unseen",
    "health",
    "execute",
)
_MAKE_PIXELS = ("batches", "decode", "packing", "faces", "folders", "images", "orl", "pairs")
_PACKAGES = ("torch", "torchvision", "timm", "pytorch-metric-learning", "pillow")


@dataclass(frozen=True)
class Run:
    """One entrant in one repeat. `spec` is None for the untrained backbone; `record` is set where it is whole.

    `replaces` is the record of a whole run that is to be trained again; `goes_on`, from the checkpoint that it left.
    """

    entrant: str
    spec: Spec | None
    repeat: int
    identity: dict[str, Any]
    hash: str
    folder: Path
    record: Record | None
    replaces: Record | None = None
    goes_on: bool = False


def plan_runs(
    config: Config,
    specs: Sequence[Spec],
    faces: FaceSet,
    fingerprints: Mapping[str, str],
    device_type: str,
    folder: Path,
) -> list[Run]:
    """List the runs, repeat by repeat.

    Args:
        config: resolved settings; `threads` is what a run on the CPU will use.
        specs: the entrants beside the untrained backbone.
        faces: the data.
        fingerprints: SHA-256 of what the images are, by name.
        device_type: cpu or cuda.
        folder: of the benchmark.

    Raises:
        InputError: a plugin that cannot be built, or a record that is damaged.
    """
    splits = [faces.fingerprint(fold) for fold in range(len(faces.folds))]
    protocol = {
        "config": {name: value for name, value in asdict(config).items() if name not in _NOT_HASHED},
        "device": device_type,
        **fingerprints,
        "splits": sha(splits),
        "code": _code_fingerprint(),
        "threads": config.threads if device_type == "cpu" else None,  # sums are split among them
        "versions": {name: _version(name) for name in _PACKAGES},
    }
    entrants: list[tuple[Spec | None, dict[str, Any]]] = [
        (None, {"entrant": UNTRAINED, "hyperparameters": {}, "plugin": None})
    ]
    for spec in specs:
        plugin = plugin_fingerprint(load_head(spec, num_classes=10, embedding_dim=8))
        entrants.append((spec, {"entrant": str(spec), "hyperparameters": hyperparameters(spec), "plugin": plugin}))
    runs = []
    for repeat in range(config.repeats):
        fold = repeat % len(faces.folds)
        shared = {"repeat": repeat, "fold": fold, "split": splits[fold], "protocol": protocol}
        for entered, own in entrants:
            identity = {**own, **shared}
            entrant = own["entrant"]
            digest = sha(identity)
            place = run_folder(folder, entrant, repeat, digest)
            runs.append(Run(entrant, entered, repeat, identity, digest, place, read_record(place)))
    return runs


def _code_fingerprint() -> str:
    """Return the SHA-256 over our own source that makes the numbers: another lossbench never reuses these runs."""
    package = Path(__file__).parent
    modules = (*_MAKE_NUMBERS, *(f"data/{name}" for name in _MAKE_PIXELS))
    files = [*(package / f"{name}.py" for name in modules), *sorted((package / "metrics").glob("*.py"))]
    return hashlib.sha256(b"\0".join(file.name.encode() + b"\0" + file.read_bytes() for file in files)).hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
