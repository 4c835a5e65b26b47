"""A benchmark: entrants x repeats. Skips what is finished, isolates failures, leaves a record of every run."""

import errno
import hashlib
import json
import os
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from lossbench import __version__
from lossbench.artifacts import (
    embedding_arrays,
    machine_facts,
    peak_memory_mib,
    save_arrays,
    save_weights,
    timings,
)
from lossbench.config import Config, to_toml
from lossbench.data import FaceSet, open_data
from lossbench.data.images import ImageStore, open_store
from lossbench.data.manifest import SplitFile
from lossbench.data.pairs import PairSet, read_pairs
from lossbench.errors import InputError
from lossbench.head import Head
from lossbench.measure import PairImages, measure, verify_pairs
from lossbench.registry import (
    UNTRAINED,
    Spec,
    find_plugins,
    hyperparameters,
    load_head,
    parse_losses,
    plugin_fingerprint,
)
from lossbench.results import SCHEMA, Record, read_record, run_folder, write_record, write_text
from lossbench.train import Epoch, be_deterministic, initial_backbone, train

# What does not change what a run finds: which entrants, how many repeats, where things lie.
_NOT_HASHED = ("losses", "repeats", "out", "plugins", "data", "device", "pairs")
_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}  # faults of the machine, not of a loss
_PACKAGES = ("torch", "torchvision", "timm", "pytorch-metric-learning", "pillow")


class Listener(Protocol):
    """Hears how a benchmark goes on; `lossbench.console` shows it."""

    def decoding(self, done: int, total: int) -> None:
        """`done` of `total` images are in the store that is being built."""

    def start(self, runs: int, skipped: int, epochs: int) -> None:
        """`runs` are to be trained for `epochs` each; `skipped` are finished already."""

    def epoch(self, run: "Run", epoch: Epoch) -> None:
        """A run has finished an epoch."""

    def finished(self, run: "Run", record: Record) -> None:
        """A run is whole: trained now, or found finished (then `run.record` is `record`)."""

    def note(self, text: str) -> None:
        """Something that must not pass in silence."""


@dataclass(frozen=True)
class Run:
    """One entrant in one repeat. `spec` is None for the untrained backbone; `record` is set where it is whole."""

    entrant: str
    spec: Spec | None
    repeat: int
    identity: dict[str, Any]
    hash: str
    folder: Path
    record: Record | None


def run_benchmark(
    config: Config, listener: Listener, *, force: bool = False, retry_failed: bool = False, verify: bool = True
) -> tuple[Path, list[Record]]:
    """Train every entrant in every repeat, in turn, and return the benchmark's folder and all records asked for.

    Args:
        config: settings as the user gave them.
        listener: hears of progress.
        force: train again what is finished.
        retry_failed: train again what has failed.
        verify: refuse data whose files are not what and where its split.json says.

    Raises:
        InputError: something the user gave is wrong; nothing was trained, and nothing half-written is left.
    """
    specs = parse_losses(config.losses, find_plugins(config.plugins))
    batch_size = config.batch_size
    config = config.resolved()
    device = _device(config.device)
    be_deterministic(device)
    faces = open_data(
        config.data,
        identities=config.identities,
        min_images=config.min_images,
        images_per_identity=config.images_per_identity,
    )
    tree = None if config.data == "orl" else Path(config.data)
    split_file = SplitFile.of(tree) if verify and tree else None
    if split_file:
        split_file.verify_layout(faces.names)
    pairs = read_pairs(Path(config.pairs), tree) if config.pairs else None
    config = _fit_batches(config, faces, listener, typed=batch_size is not None)
    initial_backbone(config, 0)  # a backbone that cannot be built says so before anything is decoded or written
    for spec in specs:
        load_head(spec, num_classes=10, embedding_dim=8)
    folder = Path(config.out) / config.benchmark
    _refuse_unwritable(folder)
    assert config.image_size is not None
    store = _open_store(faces.files, config.image_size, listener)
    if split_file:
        split_file.verify_content(faces.names, store.digests)
    pair_store = _open_store(pairs.files, config.image_size, listener) if pairs else None
    fingerprints = {"data": store.fingerprint}
    if pairs and pair_store:
        fingerprints["pairs"] = _sha([pairs.fingerprint, pair_store.fingerprint])
    runs = _plan(config, specs, faces, fingerprints, device, folder)
    if force or retry_failed:
        runs = [replace(run, record=None) if force or _failed(run) else run for run in runs]
    try:
        (folder / "runs").mkdir(parents=True, exist_ok=True)
        write_text(folder / "benchmark.toml", _benchmark_file(config, runs))
    except OSError as error:
        raise InputError(f"--out: {folder} cannot be written ({error.strerror}); choose another folder") from error
    todo = [run for run in runs if run.record is None]
    assert config.epochs is not None
    listener.start(sum(run.spec is not None for run in todo), len(runs) - len(todo), config.epochs)
    pixels = torch.from_numpy(store.pixels).to(device)
    pair_images = _pair_images(pairs, pair_store, device)
    notes = {"split_file": split_file.sha256 if split_file else None}
    records = []
    for run in runs:
        record = run.record or _execute(config, run, faces, pixels, pair_images, notes, listener)
        listener.finished(run, record)
        records.append({**record, "folder": str(run.folder)})
    return folder, records


def _open_store(files: Sequence[Path], side: int, listener: Listener) -> ImageStore:
    return open_store(files, side, on_progress=lambda done: listener.decoding(done, len(files)))


def _pair_images(pairs: PairSet | None, store: ImageStore | None, device: torch.device) -> PairImages | None:
    return PairImages(pairs, torch.from_numpy(store.pixels).to(device)) if pairs and store else None


def _plan(
    config: Config,
    specs: list[Spec],
    faces: FaceSet,
    fingerprints: Mapping[str, str],
    device: torch.device,
    folder: Path,
) -> list[Run]:
    """List the runs, repeat by repeat, each with everything that can change its result hashed."""
    protocol = {
        "config": {name: value for name, value in asdict(config).items() if name not in _NOT_HASHED},
        "device": device.type,
        **fingerprints,
        "code": _code_fingerprint(),
        "threads": torch.get_num_threads() if device.type == "cpu" else None,  # sums are split among them
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
        shared = {
            "repeat": repeat,
            "fold": repeat % len(faces.folds),
            "split": faces.fingerprint(repeat),
            "protocol": protocol,
        }
        for entered, own in entrants:
            identity = {**own, **shared}
            entrant = own["entrant"]
            digest = _sha(identity)
            place = run_folder(folder, entrant, repeat, digest)
            runs.append(Run(entrant, entered, repeat, identity, digest, place, read_record(place)))
    return runs


def _failed(run: Run) -> bool:
    return run.record is not None and run.record["status"] == "failed"


def _execute(
    config: Config,
    run: Run,
    faces: FaceSet,
    pixels: Tensor,
    pairs: PairImages | None,
    notes: Mapping[str, Any],
    listener: Listener,
) -> Record:
    """Train and measure one run and write its record; a failure is a record too.

    Raises:
        InputError: the folder cannot be written. That is no result of the loss: the run stays unfinished.
    """
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        (run.folder / "run.json").unlink(missing_ok=True)
        record = _outcome(config, run, faces, pixels, pairs, listener) | dict(notes)
        written = write_record(run.folder, record)
        (run.folder / "checkpoint.pt").unlink(missing_ok=True)
    except OSError as error:
        raise InputError(
            f"{run.folder} cannot be written ({error.strerror or error}); mend it, and the same command goes on"
        ) from error
    return written


def _outcome(
    config: Config, run: Run, faces: FaceSet, pixels: Tensor, pairs: PairImages | None, listener: Listener
) -> Record:
    done: list[Epoch] = []

    def on_epoch(epoch: Epoch) -> None:
        done.append(epoch)
        listener.epoch(run, epoch)

    started = time.time()
    outcome: dict[str, Any]
    try:
        outcome = _train_and_measure(config, run, faces, pixels, pairs, on_epoch, listener)
    except (Exception, SystemExit) as error:  # whatever a loss does wrong is its own result and stops no other
        if isinstance(error, OSError) and error.errno in _DISK:
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:500]
        (run.folder / "traceback.txt").write_text(traceback.format_exc())
        epoch = min(len(done) + 1, config.epochs or 1)  # measuring fails after the last
        outcome = {"status": "failed", "reason": reason, "epoch": epoch, "metrics": {}}
    return {
        "schema": SCHEMA,
        **outcome,
        **run.identity,
        "hash": run.hash,
        "protocol_hash": _sha(run.identity["protocol"]),
        "seed": config.seed,
        "data": config.benchmark,
        "images": {name: len(part) for name, part in faces.split(run.repeat).parts()},
        "people": {name: len(part.people) for name, part in faces.split(run.repeat).parts()},
        "timings": timings(done, time.time() - started),
        "peak_memory_mib": peak_memory_mib(pixels.device),
        "machine": machine_facts(pixels.device),
    }


def _train_and_measure(
    config: Config,
    run: Run,
    faces: FaceSet,
    pixels: Tensor,
    pairs: PairImages | None,
    on_epoch: Any,
    listener: Listener,
) -> dict[str, Any]:
    split = faces.split(run.repeat)
    head: Head | None = None
    epoch = 0
    backbone: nn.Module
    if run.spec is None:
        backbone = initial_backbone(config, run.repeat).to(pixels.device).to(memory_format=torch.channels_last)
    else:
        trained = train(
            config, run.spec, run.repeat, split, pixels, run.folder, on_epoch=on_epoch, on_note=listener.note
        )
        backbone, head, epoch = trained.backbone, trained.head, trained.selected_epoch
    measured = measure(backbone, head, pixels, split)
    if pairs:
        measured.figures["verification"] = verify_pairs(backbone, pairs, flip=config.flip)
    save_weights(run.folder / "weights.safetensors", backbone, head)
    save_arrays(run.folder / "embeddings.npz", embedding_arrays(measured.embeddings, faces, run.repeat))
    save_arrays(run.folder / "resamples.npz", measured.resamples)
    return {
        "status": "finished",
        "reason": None,
        "epoch": epoch,
        "metrics": measured.figures,
        "accuracy_by": _accuracy_by(head, measured.embeddings["val"][:1].to(pixels.device)),
        "sampler": _sampler(head),
    }


def _accuracy_by(head: Head | None, embeddings: Tensor) -> str:
    return "class means" if head is None or head.logits(embeddings) is None else "logits"


def _sampler(head: Head | None) -> str | None:
    if head is None:
        return None
    return f"P x {head.samples_per_class}" if head.samples_per_class else "shuffle"


def _benchmark_file(config: Config, runs: list[Run]) -> str:
    entrants = list(dict.fromkeys(run.entrant for run in runs))
    record = {"lossbench": __version__, "protocol": _sha(runs[0].identity["protocol"]), "entrants": entrants}
    return "# run it again: lossbench run --config THIS_FILE\n" + to_toml(config, record)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device '{name}' is not known; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device '{name}': this machine has no usable CUDA device; use cpu")
    if device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index):
        raise InputError(f"--device '{name}' is not supported; use auto, cpu or cuda")
    return device


def _fit_batches(config: Config, faces: FaceSet, listener: Listener, *, typed: bool) -> Config:
    """Refuse a typed batch size beyond the training images; let the default shrink, to four batches an epoch."""
    assert config.batch_size is not None
    images = min(len(split.train) for split in faces.folds)
    if typed and config.batch_size > images:
        raise InputError(
            f"--batch-size {config.batch_size} is more than the {images} training images; use at most {images}"
        )
    fitting = max(2, images // 4)
    if typed or config.batch_size <= fitting:
        return config
    listener.note(f"batches of {fitting}, not {config.batch_size}: there are {images} training images")
    return replace(config, batch_size=fitting)


def _refuse_unwritable(folder: Path) -> None:
    """Say so before the work starts, leaving nothing behind; writing may still fail later, and says so then."""
    place = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not place.is_dir() or not os.access(place, os.W_OK | os.X_OK):
        what = "is not a folder" if not place.is_dir() else "cannot be written"
        raise InputError(f"--out: {place} {what}; choose another folder")


def _code_fingerprint() -> str:
    """Return the SHA-256 over our own source that makes the numbers: another lossbench never reuses these runs."""
    package = Path(__file__).parent
    modules = ["head", "blocks", "networks", "backbones", "train", "measure", "unseen"]
    modules += [f"data/{name}" for name in ["batches", "decode", "faces", "folders", "images", "orl", "pairs"]]
    files = [*(package / f"{name}.py" for name in modules), *sorted((package / "metrics").glob("*.py"))]
    return hashlib.sha256(b"\0".join(file.name.encode() + b"\0" + file.read_bytes() for file in files)).hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _sha(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
