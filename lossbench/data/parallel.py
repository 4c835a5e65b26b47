"""The same function over many items, in processes: threads gain nothing where images are this small (the GIL)."""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from lossbench.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
_SMALL = 1500  # items; below, starting processes costs more than they save


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(items: int) -> int:
    """Return how many processes pay for so many images: one per core, or just this one for few."""
    return cores() if items > _SMALL else 1


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int | None = None, chunk: int = 64
) -> Iterator[Result]:
    """Yield `function` of every item, in the order of the items.

    This process works, too, and from the start: the others take half a second before they can.

    Args:
        function: a module's function, or a `functools.partial` of one: other processes must be able to find it.
        items: what to work on.
        workers: processes, this one included; `workers_for` the items when None.
        chunk: items handed to a process at a time.

    Raises:
        InputError: `function` raised it, or a process died.
    """
    helpers = (workers_for(len(items)) if workers is None else workers) - 1
    if helpers < 1:
        yield from map(function, items)
        return
    chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
    # spawn, not fork: the caller may hold threads of torch, and a forked copy of those can deadlock
    pool = ProcessPoolExecutor(helpers, mp_context=multiprocessing.get_context("spawn"), initializer=start_worker)
    work: deque[Future[list[Result]]] = deque()  # chunks in their order: handed out, or done here
    busy: set[Future[list[Result]]] = set()
    try:
        for part in chunks:
            busy = {future for future in busy if not future.done()}
            if len(busy) < 2 * helpers:
                work.append(pool.submit(_apply, function, part))
                busy.add(work[-1])
            else:
                work.append(Future())
                work[-1].set_result(_apply(function, part))
            while work and work[0].done():
                yield from work.popleft().result()
        while work:
            yield from work.popleft().result()
    except BrokenProcessPool:
        raise InputError(
            "a worker process died (out of memory, or a script that calls lossbench without an "
            "`if __name__ == '__main__':` guard); the same command goes on where this one ended"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _apply(function: Callable[[Item], Result], chunk: Sequence[Item]) -> list[Result]:
    return [function(item) for item in chunk]


def start_worker() -> None:
    """Make this worker process leave Ctrl-C to its parent, and die with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # also returns when it was killed
    os._exit(1)
