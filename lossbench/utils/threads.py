"""Run independent parts of a computation in threads."""

import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")
Found = TypeVar("Found")


class Scratch(threading.local):
    """Memory of each thread for what it makes again and again.

    Freed and allocated again, it may be new memory each time: glibc before 2.38 seldom finds an aligned block again
    (its bug 14581).
    """

    def __init__(self) -> None:
        self._memory: dict[str, Tensor] = {}

    def __call__(self, name: str, *shape: int, dtype: torch.dtype, device: torch.device) -> Tensor:
        """Return a tensor, its values whatever they are, in the memory of the last one of this name."""
        need = math.prod(shape) * dtype.itemsize
        memory = self._memory.get(name)
        if memory is None or len(memory) < need or memory.device != device:
            memory = self._memory[name] = torch.empty(need, dtype=torch.uint8, device=device)
        return memory[:need].view(dtype).view(shape)


def threads_for(device: torch.device) -> int:
    """Return how many parts to work on at a time: one a thread on a processor, one on a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def in_threads(work: Callable[[Item], Found], items: Iterable[Item], threads: int) -> Generator[Found]:
    """Yield what `work` makes of each item, in order, `threads` items at a time; torch's own threads are divided.

    A thread that does a whole part by itself wastes no time on the others, and numpy works on one thread anyway. Close
    the iterator (`contextlib.closing`) to stop early: until then torch's threads stay divided.
    """
    if threads == 1:
        for item in items:  # no map: a StopIteration in `work` would end it like the end of the items
            yield work(item)
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
