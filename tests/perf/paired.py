"""What these commands share: the two sides of a comparison measured in turn, and a split out of a folder."""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

from lossbench.config import Config
from lossbench.data.catalogue import open_data
from lossbench.data.faces import Part, Split
from lossbench.data.images.store import open_store
from lossbench.data.images.streaming import StoredPixels
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec
from lossbench.training.train import train

SPEC = parse_spec("arcface", find_plugins())

T = TypeVar("T")


def arguments(doc: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--side", type=int, default=64, help="pixels")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=7, help="after one that warms up and does not count")
    parser.add_argument("--device", default="cpu")
    return parser


def config_of(options: argparse.Namespace, epochs: int) -> Config:
    return Config(
        backbone=options.backbone, image_size=options.side, batch_size=options.batch, epochs=epochs
    ).resolved()


def faces_of(folder: Path | None, people: int | None, options: argparse.Namespace) -> tuple[list[Path], Split]:
    """Return the files of a folder of people (ORL without one) and a split that trains on all, with one val image."""
    files, labels, names = [], [], []
    if folder is None:
        orl = open_data("orl")
        files, labels, names = list(orl.files), [i // 10 for i in range(400)], [f"s{i}" for i in range(40)]
    else:
        names = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
        for label, name in enumerate(names):
            found = sorted(file for file in (folder / name).iterdir() if file.is_file())
            files += found
            labels += [label] * len(found)
    if people is not None:
        files = [file for file, label in zip(files, labels, strict=True) if label < people]
        labels, names = [label for label in labels if label < people], names[:people]
    everything, one = Part(tuple(range(len(files))), tuple(labels), tuple(names)), Part((0,), (0,), tuple(names))
    return files, Split(everything, one, one, one, one)


def pixels_of(files: list[Path], options: argparse.Namespace) -> torch.Tensor:
    """Return the files' packed pixels [N, side, side, 3], in memory on the device."""
    with tempfile.TemporaryDirectory() as cache:
        return torch.from_numpy(open_store(files, options.side, cache=Path(cache)).pixels).clone().to(options.device)


def trained_images_per_second(config: Config, split: Split, pixels: StoredPixels) -> float:
    """Train for real, and return images/s by the clock of the run's own history."""
    with tempfile.TemporaryDirectory() as folder:
        history = train(config, SPEC, 0, split, pixels, Path(folder)).history
    return sum(epoch.images for epoch in history) / sum(epoch.seconds for epoch in history)


def in_turn(pairs: int, *sides: Callable[[], T]) -> list[list[T]]:
    """Return what each side gave in each round: A, B, A, B, ...; the first round warms up."""
    rounds = [[side() for side in sides] for _ in range(pairs + 1)][1:]
    return [list(column) for column in zip(*rounds, strict=True)]


def ratio(ours: list[float], theirs: list[float]) -> str:
    """Return median and range of the pairwise ratios, in words."""
    found = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return f"{statistics.median(found):.3f} (pairs {found[0]:.3f} to {found[-1]:.3f}, {len(found)} pairs)"


class Contender:
    """A side in a process of its own, which measures once whenever it is asked to: nothing of the other rubs off.

    The process runs this same command with ``--only NAME`` and calls `answer`.
    """

    def __init__(self, name: str):
        self.process = subprocess.Popen(
            [sys.executable, *sys.argv, "--only", name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __call__(self) -> float:
        assert self.process.stdin
        assert self.process.stdout
        print("go", file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a contender ended early; what it said is above")
        return float(line)

    def close(self) -> None:
        self.process.communicate()


def answer(measure: Callable[[], float]) -> None:
    for _ in sys.stdin:
        print(measure(), flush=True)
