"""Building the packed store against a bare loop on one core, side by side; opening a built one.

    python tests/perf/store_build.py DIR [--images 12000] [--pairs 7] [--side 64]
    python tests/perf/store_build.py DIR --pool loky --decoder pillow --decoder torchvision

The bare loop is what anyone would write: PIL open, convert, resize, over the same files, keeping nothing. All run in
turn, each against a warm file cache; the ratio of every pair is printed, so that what else the machine does shows as
spread. With --pool or --decoder, the store is also built with a library in place of our code, and the ratio is library
over ours: 0.8 is a build that takes a quarter longer. Processor time says what the work costs on a machine that is busy
with other things; the clock says what a user waits where it is not.
"""

import argparse
import hashlib
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import store_alternatives as alternatives
from PIL import Image

from lossbench.data.images import packing, store
from lossbench.data.images.decode import decode_quietly
from lossbench.data.images.packing import decode_into
from lossbench.data.tree import SUFFIXES
from lossbench.utils.processes import cores, in_parallel

OURS = in_parallel, decode_into
POOLS = {"loky": (alternatives.loky, decode_into)}
DECODERS = {
    "pillow": (in_parallel, alternatives.pillow),
    "torchvision": (alternatives.threads, alternatives.torchvision),
}


def bare_loop(files, side):
    for file in files:
        with Image.open(file) as image:
            image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)


def build(parts, files, side):
    """Build a store with a pool and a function that decodes; returns the SHA-256 of its pixels."""
    store.in_parallel, store.decode_into = parts
    packing.decode_quietly = decode_quietly  # an alternative may have left its own in this process
    cache = Path(tempfile.mkdtemp())
    try:
        return hashlib.sha256(store.open_store(files, side, cache=cache).pixels).hexdigest()
    finally:
        shutil.rmtree(cache)


def costs(function, *arguments):
    """Return the seconds by the clock and of the processor, the workers' included, and what the function returned."""
    clock, before = time.perf_counter(), _processor()
    result = function(*arguments)
    return time.perf_counter() - clock, _processor() - before, result


def _processor():
    own, workers = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + workers.ru_utime + workers.ru_stime


def spread(found):
    return f"median ratio {statistics.median(found):.2f}, {min(found):.2f} to {max(found):.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--pool", action="append", choices=POOLS, default=[])
    parser.add_argument("--decoder", action="append", choices=DECODERS, default=[])
    options = parser.parse_args()
    if "torchvision" in options.decoder:
        import torch
        import torchvision.io  # noqa: F401

        torch.set_num_threads(1)
    files = sorted(f for f in options.folder.rglob("*") if f.suffix.lower() in SUFFIXES)[: options.images]
    others = {name: POOLS[name] for name in options.pool} | {name: DECODERS[name] for name in options.decoder}
    if {"loky", "pillow"} <= set(others):
        others["both"] = alternatives.loky, alternatives.pillow
    bare_loop(files, options.side)  # the files are in memory from here on
    build(OURS, files, options.side)
    faster, ratios = [], {name: [] for name in others}
    for pair in range(options.pairs):
        loop_clock, loop_work, _ = costs(bare_loop, files, options.side)
        clock, work, pixels = costs(build, OURS, files, options.side)
        faster.append(loop_clock / clock)
        line = f"{faster[-1]:.2f} times as fast as the loop, for {work / loop_work:.2f} of its processor time"
        for name, parts in others.items():
            other_clock, other_work, other_pixels = costs(build, parts, files, options.side)
            if other_pixels != pixels:
                raise SystemExit(f"{name} decodes to other pixels")
            ratios[name].append((clock / other_clock, work / other_work))
            line += f"; {name} {ratios[name][-1][0]:.2f} by the clock, {ratios[name][-1][1]:.2f} by the processor"
        print(f"pair {pair + 1}: {line}", flush=True)
    for name, found in ratios.items():
        by_clock, by_processor = zip(*found, strict=True)
        print(f"{name} over ours: by the clock {spread(by_clock)}; by the processor {spread(by_processor)}")
    print(f"{len(files)} images, {options.side} px, {cores()} cores: {spread(faster)}; {opened(files, options.side)}")


def opened(files, side):
    with tempfile.TemporaryDirectory() as cache:
        store.in_parallel, store.decode_into = OURS
        store.open_store(files, side, cache=Path(cache))
        seconds = [costs(lambda: store.open_store(files, side, cache=Path(cache)))[0] for _ in range(5)]
    return f"a built store opens in {statistics.median(seconds):.3f} s"


if __name__ == "__main__":
    main()
