"""How the C library treats memory that is freed; without torch, so that it can be told before anything is allocated."""

import ctypes
import sys


def keep_freed_memory() -> None:
    """Make glibc keep what a step frees for the next one: handing it back and faulting it in again costs up to half.

    All threads share one heap: the heaps of their own that it gives them hand back more. It must be told before there
    are threads: those that have a heap keep it. Other C libraries are left as they are. The same numbers come out
    either way.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # <malloc.h>
        mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25)  # the most that older ones take
        mallopt(trim_threshold, 2**30)
        mallopt(arena_max, 1)
