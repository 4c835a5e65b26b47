"""Identification rate by tasks in several processes that map the same files, against one process: time and memory.

    python tests/perf/shards.py --folder /tmp                   # 10,000 x 2,000,000 x 128, float32: 1 GB in the folder
    python tests/perf/shards.py --folder /tmp --queries 1000 --distractors 100000 --pairs 1
    python tests/perf/shards.py --folder /data --distractors 20000000 --dtype float16 --workers 8

Both sides use as many cores: `tasks` has workers of one thread each, which the caller feeds; `one` is
`identification_rate` of the mapped file, in one process with a thread a worker. Each round runs one after the other;
the first warms up. Both must find the same operating points. Memory is the most that a process had while it worked, in
MiB: `anonymous` is its own, with some 300 of torch and its libraries; `resident` includes the pages of the mapped
files, which all processes share. The folder's files are removed at the end.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from paired import ratio

from lossbench.metrics import identification_rate, identification_rate_of_files

PEOPLE = 8  # images of one person
NOISE = 1.5
EVERY = 0.02  # seconds between two looks at the memory


def write(path: Path, images: int, dim: int, dtype: str, seed: int) -> None:
    """Write people's directions and noise, a part at a time."""
    chance = torch.Generator().manual_seed(seed)
    file = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), (images, dim))
    for start in range(0, images, 8000):
        count = min(8000, images - start)
        centers = torch.randn(1000, dim, generator=chance).repeat_interleave(PEOPLE, dim=0)[:count]
        file[start : start + count] = centers + NOISE * torch.randn(count, dim, generator=chance)
    file.flush()


class Memory:
    """The most memory of processes while in here: by process, MiB resident and anonymous."""

    def __init__(self, first: int):
        self.first, self.most, self.over = first, {}, threading.Event()

    def __enter__(self) -> "Memory":
        self.watch = threading.Thread(target=self._look)
        self.watch.start()
        return self

    def _look(self) -> None:
        while not self.over.wait(EVERY):
            for process in [self.first, *children(self.first)]:
                if found := memory_of(process):
                    before = self.most.get(process, (0.0, 0.0))
                    self.most[process] = max(before[0], found[0]), max(before[1], found[1])

    def __exit__(self, *stop: object) -> None:
        self.over.set()
        self.watch.join()


def children(process: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{process}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *children(int(child))]
    return found


def memory_of(process: int) -> tuple[float, float] | None:
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    except OSError:  # it has ended
        return None
    if "VmRSS" not in lines:
        return None
    return int(lines["VmRSS"].split()[0]) / 1024, int(lines["RssAnon"].split()[0]) / 1024


def one_side(side: str, folder: Path, workers: int) -> None:
    """Measure one side and print its seconds, its memory and what it found."""
    files = folder / "query.npy", folder / "labels.npy", [folder / "distractors.npy"]
    if side == "one":
        torch.set_num_threads(workers)
        query, labels = (torch.from_numpy(np.load(file)) for file in files[:2])
        distractors = torch.from_numpy(np.load(files[2][0], mmap_mode="c"))
        with Memory(os.getpid()) as memory:
            start = time.perf_counter()
            found = identification_rate(query, labels, distractors)
            seconds = time.perf_counter() - start
    else:
        torch.set_num_threads(1)
        spawn = multiprocessing.get_context("spawn")  # loky takes mapped pages for a leak, and restarts its workers
        with ProcessPoolExecutor(workers, spawn, torch.set_num_threads, (1,)) as executor:
            for task in [executor.submit(time.sleep, 0.5) for _ in range(2 * workers)]:
                task.result()  # the workers are there
            with Memory(os.getpid()) as memory:
                start = time.perf_counter()
                found = identification_rate_of_files(*files, executor=executor, in_flight=2 * workers)
                seconds = time.perf_counter() - start
    points = [found.tpr.tolist(), found.threshold.tolist(), found.achieved_fpr.tolist(), found.negatives]
    mine = memory.most.pop(os.getpid())
    busy = [most for most in memory.most.values() if most[1] > 100]  # not the tracker of resources
    print(json.dumps([seconds, mine, sorted(busy), points]))


def measured(side: str, folder: Path, options: argparse.Namespace) -> list:
    command = [sys.executable, __file__, "--only", side, "--folder", str(folder), "--workers", str(options.workers)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="a folder of its own is made in it, and removed")
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--distractors", type=int, default=2_000_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float32")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=3, help="after one that warms up and does not count")
    parser.add_argument("--only", choices=("one", "tasks"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        return one_side(options.only, options.folder, options.workers)
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        folder = Path(made)
        write(folder / "query.npy", options.queries, options.dim, options.dtype, seed=2)
        np.save(folder / "labels.npy", np.arange(options.queries) // PEOPLE)
        write(folder / "distractors.npy", options.distractors, options.dim, options.dtype, seed=1)
        size = f"{options.queries:,} x {options.distractors:,} x {options.dim}, {options.dtype}"
        print(f"{size}; {options.workers} workers of one thread, and one process of {options.workers} threads")
        seconds: dict[str, list[float]] = {"one": [], "tasks": []}
        for number in range(options.pairs + 1):
            rounds = {side: measured(side, folder, options) for side in seconds}
            if rounds["one"][3] != rounds["tasks"][3]:
                sys.exit(f"they differ: one process {rounds['one'][3]}, tasks {rounds['tasks'][3]}")
            for side, (took, mine, workers, _) in rounds.items():
                if number:
                    seconds[side].append(took)
                each = "".join(f"; worker {rss:,.0f} resident, {own:,.0f} anonymous" for rss, own in workers)
                what = "warm-up" if not number else f"round {number}"
                print(f"{what} {side:>5}: {took:8.2f} s; {mine[0]:,.0f} MiB resident, {mine[1]:,.0f} anonymous{each}")
                sys.stdout.flush()
    print(f"tasks / one process, seconds: {ratio(seconds['tasks'], seconds['one'])}; the same points to the last bit")
    return None


if __name__ == "__main__":
    main()
