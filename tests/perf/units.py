"""Bytes and processor seconds per unit, from which `lossbench explain large-scale` computes.

    python tests/perf/units.py [TREE]           # by default ../shared/data/celeba500: crops of 112 px

One thread, processor time rather than the clock's, so that what else the machine does matters little: images decoded
into the store at 112 px, and its bytes; a tree opened, listed and fingerprinted; split.json written; the identification
rate of 2,000 query images with 50,000 distractors of 512 numbers. The units stand in report/large_scale.py.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from lossbench.data.catalogue import open_data
from lossbench.data.images.store import open_store
from lossbench.data.split_file import Entry, write_manifest
from lossbench.metrics import identification_rate

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "celeba500"
IMAGES, SIDE = 1000, 112  # more would start processes, whose time is not ours
QUERY, DISTRACTORS, DIM = 2000, 50_000, 512


def seconds_of(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    made = work()
    return time.process_time() - start, made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tree", type=Path, nargs="?", default=SHARED)
    tree = parser.parse_args().tree
    torch.set_num_threads(1)

    def opened() -> Any:
        faces = open_data(str(tree))
        faces.fingerprint(0)
        return faces

    seconds, faces = seconds_of(opened)
    print(f"open: {seconds / len(faces.files):.2e} s an image")
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        files = faces.files[:IMAGES]
        seconds, _ = seconds_of(lambda: open_store(files, SIDE, cache=cache, workers=1))
        size = sum(file.stat().st_size for file in cache.rglob("*") if file.is_file())
        print(f"decode: {seconds / IMAGES:.2e} s an image of {SIDE} px, store: {size / IMAGES:,.0f} bytes")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        some = [Path(file) for file in islice(faces.files, IMAGES)]
        entries = [
            Entry(str(file.relative_to(tree)), "0" * 64, file.parent.name, "train", file.name, None, {})
            for file in some
        ]
        write_manifest(root, {}, entries)
        print(f"split.json: {sum(file.stat().st_size for file in root.iterdir()) / IMAGES:,.0f} bytes an image")
    chance = torch.Generator().manual_seed(0)
    query, others = (torch.randn(count, DIM, generator=chance) for count in (QUERY, DISTRACTORS))
    seconds, _ = seconds_of(lambda: identification_rate(query, torch.arange(QUERY) // 8, others))
    print(f"identification: {seconds / (QUERY * DISTRACTORS):.2e} s a pair of {DIM} numbers")


if __name__ == "__main__":
    main()
