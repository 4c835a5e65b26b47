"""Identification rate, CMC and DIR of very many pairs: time as a ratio to the bare products alone, and peak memory.

    python tests/perf/exact_metrics.py [--queries 10000] [--distractors 1000000] [--dim 512] [--pairs 5]
                                   [--measures identification_rate,cmc,open_set,threshold_transfer] [--threads 2]
                                   [--collapse 1] [--device cuda]

The distractors lie in a file of float32 that is memory-mapped. The bare products are all pairs that a measure compares
with distractors, in tiles by torch.mm into one buffer, nothing else. Goal: at most 1.3 times as long, and under 1 GiB
of memory beside the file. On a GPU the embeddings lie in its memory, and the goal is 3 times.
"""

import argparse
import statistics
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import torch

from lossbench.metrics import cmc, enrol, identification_rate, open_set, threshold_transfer

TILE = {"cpu": (1024, 1024), "cuda": (4096, 16384)}  # rows and columns of one product
PEOPLE = 8  # images of one person
NOISE = 1.5


def write_embeddings(path: Path, images: int, dim: int, collapse: float, seed: int) -> None:
    """People's directions and noise, written a part at a time; scaled by `collapse` and moved off by 1 - collapse."""
    chance = torch.Generator().manual_seed(seed)
    file = np.memmap(path, np.float32, "w+", shape=(images, dim))
    for start in range(0, images, 8000):
        stop = min(start + 8000, images)
        centers = torch.randn(1000, dim, generator=chance).repeat_interleave(PEOPLE, dim=0)[: stop - start]
        faces = centers + NOISE * torch.randn(stop - start, dim, generator=chance)
        file[start:stop] = 1 - collapse + collapse * faces
    file.flush()


def bare_products(query: torch.Tensor, distractors: torch.Tensor) -> None:
    """Every query with every distractor."""
    height, width = TILE[query.device.type]
    memory = torch.empty(height * width, device=query.device)
    for columns in torch.split(distractors, width):
        for rows in torch.split(query, height):
            torch.mm(rows, columns.T, out=memory[: len(rows) * len(columns)].view(len(rows), len(columns)))


class DeviceMemory:
    """The most memory that torch had allocated on the GPU while in here, in MiB, above what it had before."""

    def __enter__(self) -> "DeviceMemory":
        self.before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *stop: object) -> None:
        self.most = (torch.cuda.max_memory_allocated() - self.before) / 2**20


class PeakMemory:
    """The most anonymous memory that the process had while in here, in MiB, above what it had before."""

    def __enter__(self) -> "PeakMemory":
        self.before, self.most, self.going = _anonymous(), 0.0, True
        self.watch = threading.Thread(target=self._look)
        self.watch.start()
        return self

    def _look(self) -> None:
        while self.going:
            self.most = max(self.most, _anonymous() - self.before)
            time.sleep(0.01)

    def __exit__(self, *stop: object) -> None:
        self.going = False
        self.watch.join()


def _anonymous() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def seconds_of(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--distractors", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--measures", default="identification_rate,cmc,open_set,threshold_transfer")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--collapse", type=float, default=1.0, help="how far embeddings differ: 1e-4 is nearly a point")
    parser.add_argument("--device", choices=TILE, default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "distractors.f32"
        write_embeddings(path, options.distractors, options.dim, options.collapse, seed=1)
        distractors = torch.from_numpy(np.memmap(path, np.float32, "c", shape=(options.distractors, options.dim)))
        write_embeddings(path.with_name("query.f32"), options.queries, options.dim, options.collapse, seed=2)
        query = torch.from_numpy(np.fromfile(path.with_name("query.f32"), np.float32).reshape(-1, options.dim))
        query, distractors = query.to(options.device), distractors.to(options.device)  # on a CPU still in the file
        labels = (torch.arange(options.queries) // PEOPLE).to(options.device)
        gallery = enrol(query, labels)
        probes = gallery.templates, query[gallery.probes], gallery.people
        measures = {
            "identification_rate": lambda: print(identification_rate(query, labels, distractors).tpr.tolist()),
            "cmc": lambda: print(cmc(*probes, distractors).rate.tolist()),
            "open_set": lambda: print(open_set(*probes, distractors).rate.tolist()),
            "threshold_transfer": lambda: print(
                threshold_transfer(query, labels, query, labels, distractors).achieved_fpr.tolist()
            ),
        }
        against = {
            "identification_rate": query,
            "cmc": probes[1],
            "open_set": probes[0].float(),
            "threshold_transfer": query,
        }
        bare_products(query, distractors[:20_000])  # the threads are there from here on
        for name in options.measures.split(","):
            measure, rows = measures[name], against[name]
            ratios, bares = [], []
            for _ in range(options.pairs):
                bares.append(seconds_of(bare_products, rows, distractors))
                with DeviceMemory() if query.is_cuda else PeakMemory() as memory:
                    ratios.append(seconds_of(measure) / bares[-1])
            spread = f"median {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
            print(
                f"{name}, {len(rows):,} x {options.distractors:,} x {options.dim}: {spread} times the bare "
                f"products ({statistics.median(bares):.2f} s, {options.device}, {options.threads} threads), "
                f"{memory.most:.0f} MiB beside the embeddings"
            )


if __name__ == "__main__":
    main()
