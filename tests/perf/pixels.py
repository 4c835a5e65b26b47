"""Training images/s with pixels streamed from the store against pixels resident on the device, in turn.

    python tests/perf/pixels.py [TRAIN_FOLDER] [--people N] [--epochs 3] [--cold] [--device cuda]

Both are real runs of the same net, head and batches. Resident pixels are copied to the device before the clock starts.
On a CPU streamed pixels are the mapped file itself; --cold drops it from the system's page cache before each run, so
that it is read from the disk again. Without a folder: the 400 ORL faces. Goal: 0.8.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from paired import arguments, config_of, faces_of, in_turn, ratio, trained_images_per_second

from lossbench.data.images.store import open_store, stores
from lossbench.data.images.streaming import place_pixels


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--people", type=int)
    parser.add_argument("--epochs", type=int, help="per measurement; 10 for ORL, else 1")
    parser.add_argument("--cold", action="store_true", help="read the store from the disk in every streamed run")
    options = parser.parse_args()
    config = config_of(options, options.epochs or (1 if options.folder else 10))
    files, split = faces_of(options.folder, options.people, options)
    device = torch.device(options.device)
    with tempfile.TemporaryDirectory() as cache:
        resident = place_pixels(open_store(files, options.side, cache=Path(cache)).pixels, device, "resident")
        store = stores(Path(cache))[0]

        def stream() -> float:
            if options.cold:
                drop(store.file)
            streamed = place_pixels(np.load(store.file, mmap_mode="c"), device, "stream")
            return trained_images_per_second(config, split, streamed)

        speeds = in_turn(options.pairs, lambda: trained_images_per_second(config, split, resident), stream)
    print(
        f"{options.backbone}, {options.side} px, batch {options.batch}, {config.epochs} epochs, "
        f"{store.size / 2**20:.0f} MiB of pixels, {device}, {torch.get_num_threads()} threads"
    )
    for name, found in zip(("resident", "streamed"), speeds, strict=True):
        print(f"{name:>10}: {sorted(found)[len(found) // 2]:,.0f} images/s")
    print(f"streamed / resident: {ratio(speeds[1], speeds[0])}, goal 0.8")


def drop(file: Path) -> None:
    """Ask the system to forget the pages of a file, which nobody maps at this moment."""
    descriptor = os.open(file, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


if __name__ == "__main__":
    main()
