"""How time and memory of each phase grow with the training people: 500, 5,000 and, on request, 50,000.

    python tests/perf/growth.py [TREE] [--people 500,5000,50000] [--side 32] [--backbone tiny]

Each size is a tree of links to the crops of TREE (by default ../shared/data/celeba500), whose training people are taken
again under new names; query people and distractors stay as they are, since pairs are quadratic in them. Every size is
measured in a process of its own. Memory is the most anonymous memory of that process, without the decoding processes
and the mapped pixels. "measure" includes embedding; "run" is a whole benchmark of one loss, one repeat and one epoch on
all images, and "report" writes its report. Goal: no phase grows faster than the images, by more than a tenth; phases of
less than a second are not judged. A line at the end says so for each phase, and the exit code is 1 where one did.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from exact_metrics import PeakMemory
from paired import SPEC

from lossbench.benchmark.driver import run_benchmark
from lossbench.config import Config
from lossbench.data.batches import epoch_order, to_images
from lossbench.data.catalogue import open_data
from lossbench.data.faces import Part, Split
from lossbench.data.images.store import open_store
from lossbench.data.left_out import left_out_of_tree
from lossbench.data.tree import CLOSED, OPEN
from lossbench.evaluation.embed import embed
from lossbench.evaluation.measure import measure
from lossbench.report.write import write_report
from lossbench.training.seeds import initial_backbone, initial_head
from lossbench.training.train import train

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "celeba500"
STEPS = 100
TOLERANCE = 1.1  # times the factor of the images
LEAST = 1.0  # seconds at the larger size


class Silent:
    """A listener that hears nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *words: None


def linked_tree(source: Path, people: int, root: Path) -> None:
    """Make a tree whose closed set has so many people, each of links to the images of one of the source's."""
    names = sorted(person.name for person in (source / "train").iterdir())
    for number, name in enumerate(islice(cycle(names), people)):
        for part in CLOSED:
            _link(source / part / name, root / part / f"{name}-{number // len(names)}")
    for part in OPEN:
        for person in (source / part).iterdir():
            _link(person, root / part / person.name)


def _link(folder: Path, new: Path) -> None:
    if folder.is_dir():
        new.mkdir(parents=True)
        for file in folder.iterdir():
            os.symlink(file, new / file.name)  # noqa: PTH211 (a path per file would cost more than the link)


def phases(tree: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return the images, and seconds and MiB of each phase."""
    found: dict[str, Any] = {}

    def timed(name: str, work: Callable[[], Any]) -> Any:
        with PeakMemory() as memory:
            start = time.perf_counter()
            made = work()
            seconds = time.perf_counter() - start
        found[name] = seconds, memory.before + memory.most
        return made

    def opened() -> Any:
        faces = open_data(str(tree))
        left_out_of_tree(tree, faces.files)
        faces.fingerprint(0)
        return faces

    config = Config(data=str(tree), backbone=options.backbone, image_size=options.side, epochs=1, threads=1).resolved()
    faces = timed("open", opened)
    timed("decode", lambda: open_store(faces.files, options.side))
    pixels = torch.from_numpy(timed("reopen", lambda: open_store(faces.files, options.side)).pixels)
    split = faces.split(0)
    labels = torch.tensor(split.train.labels)
    size = config.batch_size or 64

    def first_batch() -> torch.Tensor:
        order = epoch_order(labels, size, None, torch.Generator().manual_seed(0))
        to_images(pixels[torch.tensor(split.train.rows)[order[0]]])
        return order

    order = timed("first batch", first_batch)
    chosen = order[:STEPS].flatten().tolist()
    own = Part(
        *(tuple(column[i] for i in chosen) for column in (split.train.rows, split.train.labels)), split.train.people
    )
    one = Part(own.rows[:1], own.labels[:1], own.people)
    with tempfile.TemporaryDirectory() as folder:
        some = Split(own, one, one, one, one)
        timed(f"{STEPS} steps", lambda: train(config, SPEC, 0, some, pixels, Path(folder)))
    backbone, head = initial_backbone(config, 0).eval(), initial_head(config, SPEC, 0, len(split.train.people))
    timed("embed", lambda: [embed(backbone, pixels, part) for _, part in split.parts()])
    timed("measure", lambda: measure(backbone, head, pixels, split))
    with tempfile.TemporaryDirectory() as out:
        folder, _ = timed("run", lambda: run_benchmark(replace(config, losses="ce", out=out, repeats=1), Silent()))
        timed("report", lambda: write_report(folder))
    return {"images": len(faces.files), "phases": found}


def judged(before: dict[str, Any], now: dict[str, Any]) -> tuple[str, bool]:
    """Return a line that says for each phase whether it grew faster than the images, and whether none did."""
    most = TOLERANCE * now["images"] / before["images"]
    words, fine = [], True
    for name, (seconds, _) in now["phases"].items():
        faster = seconds >= LEAST and seconds > most * before["phases"][name][0]
        words.append(f"{name} {'FASTER' if faster else 'no' if seconds >= LEAST else 'too short to tell'}")
        fine &= not faster
    return f"grew faster than the images, in seconds: {', '.join(words)}", fine


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, nargs="?", default=SHARED)
    parser.add_argument("--people", default="500,5000")
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--backbone", default="tiny")
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(phases(options.only, options)))
        return
    before: dict[str, Any] = {}
    verdicts: list[str] = []
    every = True
    for people in map(int, options.people.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            linked_tree(options.tree.resolve(), people, Path(folder) / "tree")
            command = [sys.executable, *sys.argv, "--only", str(Path(folder) / "tree")]
            cache = {**os.environ, "LOSSBENCH_CACHE": str(Path(folder) / "cache")}
            done = subprocess.run(command, env=cache, stdout=subprocess.PIPE, text=True, check=True)
        now = json.loads(done.stdout.splitlines()[-1])
        more = now["images"] / before["images"] if before else 0
        print(f"{people:,} people, {now['images']:,} images" + (f": {more:.1f} times as many" if before else ""))
        for name, (seconds, memory) in now["phases"].items():
            line = f"{name:>12}: {seconds:9.3f} s, {memory:7,.0f} MiB"
            if before:
                earlier = before["phases"][name]
                line += f"; {seconds / earlier[0]:5.1f} times the seconds, {memory / earlier[1]:4.1f} times the memory"
            print(line, flush=True)
        if before:
            line, fine = judged(before, now)
            verdicts.append(f"{people:,} people: {line}")
            every &= fine
        before = now
    print("\n".join(verdicts))
    sys.exit(0 if every else 1)


if __name__ == "__main__":
    main()
