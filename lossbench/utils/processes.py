"""The same function over many items, in worker processes: joblib's loky, which scikit-learn brings.

Not `multiprocessing`: a forked copy of torch's threads can deadlock, and a spawned process first runs the caller's
script again. A worker of loky needs no guard in that script.
"""

import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from threading import Event, Thread
from typing import TypeVar

from lossbench.errors import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
_SMALL = 1000  # items; below, starting processes costs more than they save


def cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def workers_for(items: int) -> int:
    """Return how many processes pay off for so many images: one per core, or only this one for few images."""
    return cores() if items > _SMALL else 1


def in_parallel(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int | None = None, chunk: int = 64
) -> Iterator[Result]:
    """Yield `function` of every item, in the order of the items, as they are ready.

    All workers have ended when the iterator is exhausted or closed, and they end when this process is killed. Ctrl-C
    does not reach them.

    Args:
        function: a function of a module, or a `functools.partial` of one.
        items: what to work on.
        workers: processes; `workers_for` the items when None. With 1, this process does the work.
        chunk: items handed to a process at a time; handing over costs about a millisecond.

    Raises:
        Exception: what `function` raised for the first such item, in their order.
        InputError: a worker died, or cannot be started.
    """
    chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
    count = min(workers_for(len(items)) if workers is None else workers, len(chunks))
    if count < 2:
        yield from map(function, items)
        return
    from joblib.externals.loky import ProcessPoolExecutor
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    line, held = Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, initializer=_begin, initargs=(line,))
    waiting: deque[Future[tuple[list[Result], Exception | None]]] = deque()
    try:
        try:
            with interrupts_held():
                waiting.extend(pool.submit(_apply, function, part) for part in chunks)
        except OSError as error:
            raise InputError(f"a worker process cannot be started ({error.strerror}); close other programs") from error
        while waiting:
            results, failure = waiting.popleft().result()
            yield from results
            if failure is not None:
                raise failure
    except TerminatedWorkerError as error:
        raise InputError(
            "a worker process died (out of memory?); the same command continues where this one stopped"
        ) from error
    finally:
        for future in waiting:
            future.cancel()
        held.close()
        pool.shutdown()  # not with kill_workers, which fails where there is neither psutil nor pgrep
        line.close()


_stopped = Event()  # in a worker: its parent wants no more results, or is gone
_GRACE = 2.0  # seconds that a worker then has for the item it is at


def _begin(line: Connection) -> None:
    """Prepare a worker: what a library prints goes to standard error, and it stops when its parent's end closes."""
    os.dup2(2, 1)
    Thread(target=_follow, args=(line,), daemon=True).start()


def _follow(line: Connection) -> None:
    with suppress(EOFError, OSError):
        line.recv()  # nothing is ever sent
    _stopped.set()
    time.sleep(_GRACE)
    os._exit(1)


def _apply(function: Callable[[Item], Result], items: Sequence[Item]) -> tuple[list[Result], Exception | None]:
    """Return the results of the items before the first that raises, and what it raises."""
    results: list[Result] = []
    for item in items:
        if _stopped.is_set():
            break
        try:
            results.append(function(item))
        except Exception as error:
            return results, error
    return results, None


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Keep Ctrl-C from processes that start in this context, for good; this one gets it when the context ends."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # otherwise it would start in the context and unblock interrupts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
