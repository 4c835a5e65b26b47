"""What tests of several rooms share: a listener that remembers, a short benchmark, plugins written on the fly."""

import copy
import io
import math
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from lossbench.benchmark.driver import run_benchmark
from lossbench.config import Config
from lossbench.conformance.probe import Subject
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec
from lossbench.report.compare.comparison import Comparison, side_by_side
from lossbench.report.findings import Findings
from lossbench.results.study import Study
from lossbench.results.verdicts import verdicts
from lossbench.training.train import train

FAST = {"epochs": 2, "image_size": 32, "repeats": 2}
WORDS = ("--epochs", 2, "--image-size", 32, "--repeats", 1)  # the like, on the command line

TREE_WORDS = ("--losses", "ce,triplet", "--backbone", "tiny", *WORDS)  # on the tree of real faces


class Recorder:
    """A listener that remembers which runs were trained, and the notes."""

    def __init__(self) -> None:
        self.trained: list[tuple[str, int, int]] = []
        self.notes: list[str] = []
        self.looks: list[int] = []

    def decoding(self, done, total): ...

    def start(self, runs, skipped, epochs):
        self.runs, self.skipped = runs, skipped

    def look(self, number, most):
        self.looks.append(number)

    def epoch(self, run, epoch):
        self.trained.append((run.entrant, run.repeat, epoch.epoch))

    def finished(self, run, record): ...

    def note(self, text):
        self.notes.append(text)


def bench(out: Path, losses: str, **options: Any):
    """Run a short benchmark on ORL in this process; returns its folder, its records and what the listener heard."""
    heard = Recorder()
    again = {name: options.pop(name, False) for name in ("force", "retry_failed", "once")}
    folder, records = run_benchmark(Config(losses=losses, out=str(out), **{**FAST, **options}), heard, **again)
    return folder, records, heard


_FINISHED: dict[str, tempfile.TemporaryDirectory[str]] = {}


def copied_bench(out: Path, losses: str, **options: Any):
    """Return what `bench` does of a benchmark that a test begins with: one like it that is finished is copied.

    Nothing is trained then, and the listener hears of no epoch.
    """
    key = repr((losses, sorted(options.items())))
    if key not in _FINISHED:
        folder = tempfile.TemporaryDirectory()
        bench(Path(folder.name), losses, **options)
        _FINISHED[key] = folder
    shutil.copytree(_FINISHED[key].name, out, dirs_exist_ok=True)
    return bench(out, losses, **options)


class Interrupting(Recorder):
    """A listener that is interrupted, as by Ctrl-C, when it hears of an epoch of this number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def epoch(self, run, epoch):
        super().epoch(run, epoch)
        if epoch.epoch == self.number:
            raise KeyboardInterrupt


def logged_runs(tmp_path: Path, name: str):
    """Run ce, interrupted in its second epoch and resumed, and a loss that fails, with a logger of ``--log-to``.

    Returns the benchmark's folder, the records by entrant, and the notes.
    """
    broken = plugin(tmp_path, "broken", forward("embeddings.sum() * float('nan')"))
    config = Config(
        losses=f"ce,{broken}", out=str(tmp_path / "out"), epochs=3, image_size=32, repeats=1, log_to=(name,)
    )
    with pytest.raises(KeyboardInterrupt):
        run_benchmark(config, Interrupting(2))
    heard = Recorder()
    folder, records = run_benchmark(config, heard)
    assert [epoch for entrant, _, epoch in heard.trained if entrant == "ce"] == [1, 2, 3]
    return folder, {Path(record["entrant"]).stem: record for record in records}, heard.notes


def settings(**changes: Any) -> Config:
    """Return the resolved settings of a short training on ORL."""
    return Config(**{"epochs": 2, "image_size": 32, **changes}).resolved()


def trained(text: str, split, pixels, folder: Path, config: Config | None = None, repeat: int = 0, **options: Any):
    """Train one entrant of a spec in `folder`, for three epochs if no settings are given."""
    folder.mkdir(exist_ok=True)
    spec = parse_spec(text, find_plugins())
    return train(config or settings(epochs=3), spec, repeat, split, pixels, folder, **options)


def equal_states(a, b) -> bool:
    """Return whether two modules have the same parameters and buffers, bit by bit."""
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(bool((a[name] == b[name]).all()) for name in a)


def run_of(folder: Path, entrant: str) -> Path:
    """Return the folder of an entrant's first run in a benchmark's folder."""
    return next((folder / "runs").glob(f"{entrant}-r0-*"))


def figures(records: Sequence[dict[str, Any]]):
    return [(r["entrant"], r["repeat"], r["metrics"]) for r in records]


_PLUGIN = """import torch
from lossbench import Head, margin_softmax


class Mine(Head):
    def __init__(self, num_classes, embedding_dim{extra}):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(num_classes, embedding_dim))
        self.register_buffer("epoch", torch.zeros(()))
{methods}
"""
LOSS = "margin_softmax(embeddings, self.weight, labels, lambda own: own - 0.1, 30.0)"
FORWARD = f"""
    def forward(self, embeddings, labels):
        return {LOSS}
"""


def forward(returned: str, before: str = "pass") -> str:
    """Return the method forward of a loss plugin, which runs a statement and returns an expression."""
    return f"\n    def forward(self, embeddings, labels):\n        {before}\n        return {returned}\n"


def subject(text: str) -> Subject:
    """Return what `lossbench check` examines for a spec."""
    return Subject(parse_spec(text, find_plugins()))


def plugin(folder: Path, name: str, methods: str, extra: str = "") -> str:
    """Write a loss plugin with these methods and further constructor arguments; returns its path."""
    path = folder / f"{name}.py"
    path.write_text(_PLUGIN.format(methods=methods, extra=extra))
    return str(path)


NETWORK = """import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.residual = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Conv2d(inputs, outputs, 1, 2, bias=False)

    def forward(self, x):
        return (self.residual(x) + self.shortcut(x)).relu()


class Net(nn.Module):
    lr = 3e-3

    def __init__(self, embedding_dim=16, *, image_size=32, dropout=0.1):
        super().__init__()
        self.blocks = nn.Sequential(Block(3, 8), Block(8, 16), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Linear(16, embedding_dim)

    def forward(self, images):
        return self.embedding(self.dropout(self.blocks(2 * images - 1)))
"""  # a small residual network of a user's own


def network(folder: Path, *changes: tuple[str, str], name: str = "my_net") -> str:
    """Write a network's file, with parts of `NETWORK` replaced; returns its path."""
    source = NETWORK
    for part, other in changes:
        assert part in source, part
        source = source.replace(part, other)
    path = folder / f"{name}.py"
    path.write_text(source)
    return str(path)


def heed_interrupts() -> None:
    """Undo what shells do to commands in the background: in a new process, Ctrl-C would be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


GONE = object()


def changed(whole, at, value):
    """Return a copy of nested dictionaries and lists with another value at a place, or without it (GONE)."""
    made = copy.deepcopy(whole)
    holder = made
    for key in at[:-1]:
        holder = holder[key]
    if value is GONE:
        del holder[at[-1]]
    else:
        holder[at[-1]] = value
    return made


def known_record(entrant, repeat, accuracy, tpr=0.5, status="finished", reason=None):
    """Return as much of a record as tables and verdicts need."""
    metrics = {
        "test_accuracy": accuracy,
        "test_accuracy_ncm": accuracy,
        "tpr@0.1": tpr,
        "tpr@0.01": tpr,
        "tpr@0.001": None,
        "query_inter": 60.0,
    }
    return {
        "entrant": entrant, "repeat": repeat, "fold": repeat, "status": status, "reason": reason, "epoch": 4,
        "accuracy_by": "logits" if entrant != "untrained" else "class means", "sampler": "shuffle",
        "split": f"fold {repeat}", "data": "faces", "people": {"test": 24, "query": 8},
        "metrics": metrics if status == "finished" else {}, "timings": {"images_per_second": 100.0, "seconds": 5.0},
    }  # fmt: skip


RECORDS = [
    *(known_record("untrained", r, 0.3) for r in range(4)),
    *(known_record("a", r, 0.90 + 0.001 * r) for r in range(4)),
    *(known_record("b", r, 0.80 + 0.001 * r + 0.0001 * (r % 2)) for r in range(4)),
    *(known_record("c", r, 0.9 + 0.1 * (-1) ** r, tpr=0.5 + 0.1 * (-1) ** r) for r in range(3)),
    known_record("c", 3, math.nan, status="failed", reason="TrainingFailed: the loss became nan"),
]
STUDY = Study(tuple(RECORDS), {})

PARTS = ("train", "val", "test", "query", "distractors")
SETTINGS = {
    "data": "orl", "backbone": "tiny", "image_size": 48, "embedding_dim": 128, "epochs": 7, "batch_size": 32,
    "lr": 0.003, "optimizer": "adamw", "schedule": "cosine", "seed": 5, "select": "last",
    "record": {"lossbench": "9.8.7"},
}  # fmt: skip
COUNTS = {"positives": 1234, "negatives": 56_789, "query_negatives": 789, "lowest_fpr": 1 / 56_789}


def whole(record):
    """Return a record with all that a report quotes."""
    return {
        **record,
        "data": "orl",
        "folder": "passed on without embeddings",
        "protocol_hash": "a hash",
        "images": {part: 100 + i for i, part in enumerate(PARTS)},
        "people": {part: 20 + i for i, part in enumerate(PARTS)},
        "machine": {"device": "a CPU of 1984", "threads": 3},
        "metrics": record["metrics"] and {**record["metrics"], **COUNTS},
    }


REPORTED = [whole(record) for record in RECORDS]


def compared(**runs: Sequence[dict[str, Any]]) -> Comparison:
    """Return benchmarks side by side, each by its label, of these records."""
    found = {}
    for label, own in runs.items():
        study = Study(tuple(own), {})
        found[label] = Findings(SETTINGS, study, verdicts(study), [])
    return side_by_side(found)


def renamed(names: dict[str, str], runs: Sequence[dict[str, Any]] = REPORTED) -> list[dict[str, Any]]:
    """Return records whose losses have other names; the others keep theirs."""
    return [{**run, "entrant": names.get(run["entrant"], run["entrant"])} for run in runs]


FACE_SIZE = (178, 218)


def draw_face(seed: int, size: tuple[int, int] = FACE_SIZE) -> tuple[Image.Image, list[float]]:
    """Return a cartoon on a random texture, and its ten landmarks in pixels by index."""
    rng = np.random.default_rng(seed)
    texture = Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    image = texture.filter(ImageFilter.GaussianBlur(2))
    pen = ImageDraw.Draw(image)
    middle = np.array([size[0] / 2, size[1] / 2]) + rng.uniform(-6, 6, 2)
    angle, scale = rng.uniform(-0.3, 0.3), rng.uniform(0.8, 1.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * scale
    offsets = np.array([[-19, -25], [19, -25], [0, -2], [-16, 17], [16, 17]])
    points = offsets @ turn.T + middle
    for x, y in points:
        pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=(255, 0, 0))
    return image, [float(v) for v in np.round(points - 0.5, 3).ravel()]


COMMAND = [sys.executable, "-m", "lossbench", "run", "--image-size", "32"]


def start(*words, **options):
    """Start `lossbench run` at 32 px in a process of its own, which heeds Ctrl-C."""
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*COMMAND, *map(str, words)], env=environment, preexec_fn=heed_interrupts, **quiet, **options
    )


_ON_HOST = """
import errno, fcntl, sys

def unsupported(*_):
    raise OSError(errno.ENOSYS, "Function not implemented")

fcntl.flock = fcntl.lockf = unsupported
from lossbench.utils import claims, owner

host, claims.BEAT, claims.STALE = sys.argv[1], float(sys.argv[2]), float(sys.argv[3])
owner.this_machine = lambda: (host, host)
sys.argv = ["lossbench", *sys.argv[4:]]
from lossbench.__main__ import main

main()
"""


def on_host(host: str, beat: float, stale: float, *words: object) -> list[str]:
    """Return a command that runs lossbench with these words as if on a host of its own, without locks of the system.

    Args:
        host: its name.
        beat: seconds between two renewals of a claim.
        stale: seconds without any after which it is taken over.
        words: of the command line.
    """
    return [sys.executable, "-c", _ON_HOST, host, str(beat), str(stale), *map(str, words)]


def wait_for(what, seconds=120):
    """Wait until something is so; fail where it takes too long."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def nobody_left(group):
    """Return whether a process group has ended."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@contextmanager
def small_disk(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes: writing more is an OSError, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


_RECORD_MAGIC = bytes([0x0A, 0x23, 0xD7, 0xCE])


def recordio(data: bytes) -> bytes:
    """Return data as a record of RecordIO, by its specification: dmlc-core, include/dmlc/recordio.h.

    Wherever an aligned word of the data is the magic number, the record is split and the word left out.
    """
    cuts = [at for at in range(0, len(data) // 4 * 4, 4) if data[at : at + 4] == _RECORD_MAGIC]
    pieces = [data[a:b] for a, b in zip([0, *(cut + 4 for cut in cuts)], [*cuts, len(data)], strict=True)]
    kinds = [1, *[2] * (len(cuts) - 1), 3] if cuts else [0]
    return b"".join(
        _RECORD_MAGIC + (kind * 2**29 + len(piece)).to_bytes(4, "little") + piece + bytes(-len(piece) % 4)
        for kind, piece in zip(kinds, pieces, strict=True)
    )


def labelled(labels: Sequence[float], key: int, image: bytes = b"") -> bytes:
    """Return an image with MXNet's header: one label in the header itself, several behind it."""
    if len(labels) == 1:
        return struct.pack("<IfQQ", 0, labels[0], key, 0) + image
    return struct.pack(f"<IfQQ{len(labels)}f", len(labels), 0, key, 0, *labels) + image


def write_records(root: Path, records: Sequence[bytes], property_: str) -> Path:
    """Write records with keys from 0 on as train.rec and train.idx, and property beside them."""
    root.mkdir(parents=True, exist_ok=True)
    packed = [recordio(record) for record in records]
    starts = [sum(map(len, packed[:i])) for i in range(len(packed))]
    (root / "train.rec").write_bytes(b"".join(packed))
    (root / "train.idx").write_text("".join(f"{key}\t{start}\n" for key, start in enumerate(starts)))
    (root / "property").write_text(property_)
    return root


def training_set(root: Path, people: Sequence[Sequence[bytes]], size: tuple[int, int]) -> Path:
    """Write an InsightFace training set: record 0, the images person by person, and a record of each person.

    Args:
        root: the folder to make.
        people: the encoded images of each.
        size: width and height of the images.
    """
    count = sum(map(len, people))
    records = [labelled([count + 1, count + 1 + len(people)], 0)]
    ranges = []
    for label, images in enumerate(people):
        ranges.append((len(records), len(records) + len(images)))
        records += [labelled([label], len(records) + i, image) for i, image in enumerate(images)]
    records += [labelled(own, count + 1 + i) for i, own in enumerate(ranges)]
    return write_records(root, records, f"{len(people)},{size[1]},{size[0]}")


def encoded_people(files: Sequence[Path], images: int) -> list[list[bytes]]:
    """Return the faces of files as JPEG and PNG in turn, so many per person; one holds RecordIO's magic word.

    The word stands in a JPEG comment, where a record of the image is split.
    """
    encoded = []
    for i, file in enumerate(files):
        buffer = io.BytesIO()
        with Image.open(file) as image:
            image.save(buffer, "PNG" if i % 3 == 0 else "JPEG", quality=95)
        encoded.append(buffer.getvalue())
    comment = b"\xff\xfe\x00\x12" + b"--" + 2 * _RECORD_MAGIC + b"----" + b"--"
    encoded[1] = encoded[1][:2] + comment + encoded[1][2:]
    return [encoded[i : i + images] for i in range(0, len(encoded), images)]


def model_record(**changes: Any) -> dict[str, Any]:
    """Return the record of a finished run, with as much as an exported model says of itself."""
    metrics = {"positives": 360, "negatives": 9200, "query_negatives": 2800, "calibration_negatives": 1104}
    metrics |= {"lowest_fpr": 1 / 9200}
    for rate, threshold, becomes in ((0.1, 0.4, 0.28), (0.01, 0.66, 0.09021), (0.001, 0.85, 0.03)):
        metrics |= {f"tpr@{rate:g}": 0.6, f"threshold@{rate:g}": threshold}
        metrics |= {f"transfer_threshold@{rate:g}": threshold - 0.2, f"transfer_fpr@{rate:g}": becomes}
        metrics |= {f"transfer_tpr@{rate:g}": 0.9}
    config = {"backbone": "tiny", "image_size": 32, "embedding_dim": 16, "dropout": 0.2}
    return {
        **whole(known_record("arcface", 1, 0.9)),
        "hash": "0123456789abcdef",
        "hyperparameters": {"margin": 0.5, "scale": 64.0},
        "protocol": {"config": config, "network": None},
        "metrics": metrics,
        **changes,
    }


def scene(*faces: tuple[Path, tuple[int, int], float], size: tuple[int, int] = (400, 320)) -> Image.Image:
    """Return a photo of a wall with faces on it: each an image, where its corner is, and how much it is enlarged."""
    shades = np.add.outer(np.linspace(90, 140, size[1]), np.linspace(0, 60, size[0]))
    photo = Image.fromarray(shades.astype(np.uint8)).convert("RGB")
    for file, corner, zoom in faces:
        with Image.open(file) as face:
            photo.paste(face.resize((round(face.width * zoom), round(face.height * zoom))), corner)
    return photo


def write_scenes(orl: Any, root: Path, people: int = 6, images: int = 5) -> Path:
    """Write photos of ORL's people, a folder each; of p0, photo 0 shows nobody, and photo 1 a second face."""
    for person in range(people):
        (root / f"p{person}").mkdir(parents=True)
        for i in range(images):
            rng = np.random.default_rng(person * 100 + i)
            faces = [(orl.files[person * 10 + i], (int(rng.integers(20, 180)), int(rng.integers(10, 80))), 1.6)]
            if (person, i) == (0, 1):
                faces = [(faces[0][0], (10, 60), 1.8), (orl.files[90], (290, 40), 1.0)]
            photo = scene() if (person, i) == (0, 0) else scene(*faces)
            photo.save(root / f"p{person}" / f"{i}.png")
    return root
