"""One run on a node of a cluster, in a worker process that Ray keeps for the next."""

import hashlib
import os
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from lossbench.benchmark.engines.ray_bootstrap import CHUNK, Facts, facts
from lossbench.benchmark.engines.ray_cluster import refuse_misfits
from lossbench.benchmark.engines.ray_parcels import Luggage, Unpacked, files_in, received, store_at, written
from lossbench.benchmark.inputs import Inputs, Pixels, place_stores
from lossbench.benchmark.plan import Run
from lossbench.benchmark.queue import Done, attempt
from lossbench.benchmark.ranks import Silence
from lossbench.data.images.store import cache_folder
from lossbench.errors import InputError
from lossbench.losses.loading import trial_head
from lossbench.results.history import Epoch
from lossbench.utils.device import be_deterministic
from lossbench.utils.memory import keep_freed_memory
from lossbench.utils.owner import Owner
from lossbench.utils.plugin_file import plugin_fingerprint


@dataclass(frozen=True)
class Job:
    """What all runs of a benchmark share, as a node gets it.

    `ours` is what the caller's machine has, and every node must have, one that joins later too. `inputs` lack the paths
    of the images. `token` is a file in the results folder, which nodes that share the folder see; None where not all
    do. `desk` is the actor that hears of progress and hands out files.
    """

    key: str
    inputs: Inputs
    luggage: Luggage
    threads: int
    ours: Facts
    token: Path | None
    desk: Any


class Task(NamedTuple):
    """A run, its number for the caller, and the files that it continues from where nodes do not share its folder."""

    run: Run
    flight: int
    files: dict[str, bytes]


class Answer(NamedTuple):
    """How a run ended.

    `kind` is done, with `done`; taken, by another process; blind, on a node that does not see the results folder; or
    stop, with a line for the user. `files` are the names, bytes and SHA-256 of the files that follow.
    """

    kind: str
    host: str
    done: Done | None = None
    text: str = ""
    files: tuple[tuple[str, int, str], ...] = ()


def train(job: Job, task: Task) -> Iterator[Answer | bytes]:
    """Do a run; yields an `Answer`, and then the files of the run's folder in chunks where nodes do not share it."""
    host, teller = socket.gethostname(), Teller(job.desk, task.flight)
    teller.say("begun", (host, asdict(Owner.this_process())))
    try:
        if job.token is not None and not job.token.exists():
            yield Answer("blind", host)
            return
        opened = _opened(job)
        run = opened.run(task.run)
        if job.token is not None:
            done = attempt(opened.inputs, opened.pixels, run, teller)
            teller.wait()
            yield Answer("done" if done else "taken", host, done)
            return
        yield from _in_scratch(opened, run, task, teller)
    except InputError as error:
        teller.wait()
        yield Answer("stop", host, text=f"{error} (on node {host})")
    finally:
        teller.say("left", None)


def _in_scratch(opened: "_Opened", run: Run, task: Task, teller: "Teller") -> Iterator[Answer | bytes]:
    place = cache_folder() / "ray"
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        folder = Path(scratch) / "benchmark" / "runs" / run.folder.name
        if task.files:
            written(folder, task.files)
        done = attempt(opened.inputs, opened.pixels, replace(run, folder=folder), teller)
        teller.wait()
        files = files_in(folder)
        listed = [(file.name, file.stat().st_size, _sha256(file)) for file in files]
        yield Answer("done" if done else "taken", teller.host, done, files=tuple(listed))
        for path in files:
            with path.open("rb") as file:
                while data := file.read(CHUNK):
                    yield data


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class Teller(Silence):
    """The listener of a run on a node: it tells the caller's desk of epochs and notes."""

    def __init__(self, desk: Any, flight: int):
        self.desk, self.flight, self.host = desk, flight, socket.gethostname()
        self.last: Any = None

    def say(self, kind: str, content: Any) -> None:
        """Send a message."""
        self.last = self.desk.say.remote(self.flight, kind, content)

    def wait(self) -> None:
        """Return once all messages have arrived."""
        if self.last is not None:
            _get(self.last)

    def epoch(self, run: Run, epoch: Epoch) -> None:
        """Tell of an epoch, as plain values: the desk may not have lossbench."""
        self.say("epoch", vars(epoch))

    def note(self, text: str) -> None:
        """Pass a note on."""
        self.say("note", text)


class _Opened:
    """A job made ready in this process: pixels mapped, plugins in place."""

    def __init__(self, job: Job):
        refuse_misfits([facts("")], job.ours)
        keep_freed_memory()
        torch.set_num_threads(job.threads)
        be_deterministic(job.inputs.device)
        self.unpacked = Unpacked(job.luggage)
        large = job.luggage.large
        places = {name: received(parcel, name, job.desk, _get) for name, parcel in large.items()}
        stores = {name: store_at(places[name], large[name]) for name in ("data", "pairs") if name in large}
        config = job.inputs.config
        pretrained = str(places["pretrained"]) if "pretrained" in places else config.pretrained
        config = replace(config, pretrained=pretrained, backbone=self.unpacked.backbone(config.backbone))
        specs = tuple(map(self.unpacked.spec, job.inputs.specs))
        self.inputs = replace(job.inputs, config=config, specs=specs)
        self.pixels: Pixels = place_stores(self.inputs, stores["data"], stores.get("pairs"), Silence())

    def run(self, run: Run) -> Run:
        """Return a run as it is done here.

        Raises:
            InputError: its plugin cannot be built here, or is another one than the caller's.
        """
        if run.spec is None:
            return run
        spec = self.unpacked.spec(run.spec)
        try:
            fingerprint = plugin_fingerprint(trial_head(spec))
        except InputError as error:
            raise InputError(f"{error}; install what {run.entrant} needs on every node") from error
        if fingerprint != run.identity["plugin"]:
            raise InputError(f"{run.entrant} is not the same loss as for the caller; install the same files everywhere")
        return replace(run, spec=spec)


_ready: dict[str, _Opened] = {}  # of the last job in this process


def _opened(job: Job) -> _Opened:
    if job.key not in _ready:
        _ready.clear()
        os.environ.setdefault("OMP_NUM_THREADS", str(job.threads))
        _ready[job.key] = _Opened(job)
    return _ready[job.key]


def _get(reference: Any) -> Any:
    import ray

    return ray.get(reference)
