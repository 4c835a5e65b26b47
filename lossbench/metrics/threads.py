"""Work in several threads of which each does its own part from end to end, waiting for no other."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Found = TypeVar("Found")


def threads_for(device: torch.device) -> int:
    """Return how many parts to work on at a time: one a thread on a processor, one on a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def in_threads(work: Callable[[Item], Found], items: Iterable[Item], threads: int) -> Iterator[Found]:
    """Yield what `work` makes of each item, in order, `threads` items at a time; torch's own threads are divided.

    A thread that does a whole part by itself wastes no time on the others, and numpy works on one thread anyway.
    """
    if threads == 1:
        yield from map(work, items)
        return
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // threads))
    try:
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[Found]] = deque()
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    finally:
        torch.set_num_threads(before)
