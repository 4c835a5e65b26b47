"""What `store_build.py` compares with: joblib's pool instead of ours, Pillow or torchvision instead of our JPEG header.

A module of its own, because worker processes import the functions by name.
"""

import os
import signal
import sys
import threading
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from PIL import Image

from lossbench.data.images import packing
from lossbench.data.images.decode import _any_format
from lossbench.utils.processes import cores


def loky(function, items, *, workers, chunk):
    """`in_parallel` on joblib's loky; a task holds 128 images, since each costs this process about a millisecond."""
    from joblib.externals.loky import ProcessPoolExecutor

    chunk *= 4
    pool = ProcessPoolExecutor(workers, initializer=_begin, initargs=(os.getpid(),))
    try:
        with _interrupts_blocked():
            left = deque(pool.submit(_apply, function, items[i : i + chunk]) for i in range(0, len(items), chunk))
        while left:
            yield from left.popleft().result()
    finally:
        pool.shutdown(kill_workers=True)


def _begin(parent):
    os.dup2(2, 1)
    threading.Thread(target=_follow, args=(parent,), daemon=True).start()


def _follow(parent):
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


@contextmanager
def _interrupts_blocked():
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _apply(function, items):
    return [function(item) for item in items]


def threads(function, items, *, workers, chunk):
    """`in_parallel` in threads, for a decoder that releases the GIL."""
    with ThreadPoolExecutor(cores()) as pool:
        yield from pool.map(function, items)


def pillow(store, offset, side, job):
    """`decode_into` with every header read by Pillow."""
    packing.decode_quietly = _any_format
    return packing.decode_into(store, offset, side, job)


def torchvision(store, offset, side, job):
    """`decode_into` with torchvision's libjpeg."""
    packing.decode_quietly = _by_torchvision
    return packing.decode_into(store, offset, side, job)


def _by_torchvision(data, name):
    torch, io = sys.modules["torch"], sys.modules["torchvision.io"]  # imported before the clock starts
    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    pixels = io.decode_image(encoded, mode=io.ImageReadMode.RGB, apply_exif_orientation=True)
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
