"""What tests of several rooms share: a listener that remembers, a short benchmark, plugins written on the fly."""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lossbench.benchmark.driver import run_benchmark
from lossbench.config import Config

FAST = {"epochs": 2, "image_size": 32, "repeats": 2}


class Recorder:
    """A listener that remembers which runs were trained, and the notes."""

    def __init__(self) -> None:
        self.trained: list[tuple[str, int, int]] = []
        self.notes: list[str] = []

    def decoding(self, done, total): ...

    def start(self, runs, skipped, epochs):
        self.runs, self.skipped = runs, skipped

    def epoch(self, run, epoch):
        self.trained.append((run.entrant, run.repeat, epoch.epoch))

    def finished(self, run, record): ...

    def note(self, text):
        self.notes.append(text)


def bench(out: Path, losses: str, **options: Any):
    """Run a short benchmark on ORL in this process; returns its folder, its records and what the listener heard."""
    heard = Recorder()
    again = {name: options.pop(name, False) for name in ("force", "retry_failed")}
    folder, records = run_benchmark(Config(losses=losses, out=str(out), **{**FAST, **options}), heard, **again)
    return folder, records, heard


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


def plugin(folder: Path, name: str, methods: str, extra: str = "") -> str:
    """Write a loss plugin with these methods and further constructor arguments; returns its path."""
    path = folder / f"{name}.py"
    path.write_text(_PLUGIN.format(methods=methods, extra=extra))
    return str(path)


def heed_interrupts() -> None:
    """Undo what shells do to commands in the background: in a new process, Ctrl-C would be ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
