"""Building the packed store against a bare loop on one core, side by side; opening a built one.

    python tests/perf/store_build.py DIR [--images 12000] [--pairs 7] [--side 64]

The bare loop is what anyone would write: PIL open, convert, resize, over the same files, keeping nothing. Both run in
turn, each against a warm file cache; the ratio of every pair is printed, so that what else the machine does shows as
spread.
"""

import argparse
import resource
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from PIL import Image

from lossbench.data.images.store import open_store
from lossbench.data.tree import SUFFIXES
from lossbench.utils.processes import cores


def bare_loop(files: list[Path], side: int) -> None:
    for file in files:
        with Image.open(file) as image:
            image.convert("RGB").resize((side, side), Image.Resampling.BILINEAR)


def cpu_seconds() -> float:
    """Return the processor time of this process and of its finished workers."""
    own, workers = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + workers.ru_utime + workers.ru_stime


def seconds_of(function, *arguments, **options) -> float:
    start = time.perf_counter()
    function(*arguments, **options)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=12_000)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--side", type=int, default=64)
    options = parser.parse_args()
    files = sorted(f for f in options.folder.rglob("*") if f.suffix.lower() in SUFFIXES)[: options.images]
    cache = Path(tempfile.mkdtemp())
    try:
        bare_loop(files, options.side)  # the files are in memory from here on
        ratios = []
        for pair in range(options.pairs):
            before = cpu_seconds()
            loop = seconds_of(bare_loop, files, options.side)
            between = cpu_seconds()
            shutil.rmtree(cache)
            build = seconds_of(open_store, files, options.side, cache=cache)
            work = (cpu_seconds() - between) / (between - before)  # 1.1 leaves at most 1.8 on two idle cores
            ratios.append(loop / build)
            print(f"pair {pair + 1}: {ratios[-1]:.2f} times as fast as the loop, for {work:.2f} of its processor time")
        opening = [seconds_of(open_store, files, options.side, cache=cache) for _ in range(5)]
        spread = f"median ratio {statistics.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
        opened = f"a built store opens in {statistics.median(opening):.3f} s"
        print(f"{len(files)} images, {options.side} px, {cores()} cores: {spread}; {opened}")
    finally:
        shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
