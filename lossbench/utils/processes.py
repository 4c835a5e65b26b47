"""The same function over many items, in processes: threads gain nothing where images are this small (the GIL).

Not `multiprocessing`: a forked copy of torch's threads can deadlock, and a spawned process first runs the caller's
script again and imports what that imports. A process here starts in a tenth of a second, needs no guard in the caller's
script, and does not hear Ctrl-C: that is this process's to handle.
"""

import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

from lossbench.errors import CONTINUE, InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
_SMALL = 1000  # items; below, starting processes costs more than they save
_AHEAD = 2  # chunks handed to a helper at once, so that it never waits for this process to look up from its own
_SERVE = "import sys; sys.path[:] = sys.argv[1:]; from lossbench.utils.worker import serve; serve()"


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

    This process works, too, and from the start.

    Args:
        function: a module's function, or a `functools.partial` of one: other processes must be able to import it.
        items: what to work on.
        workers: processes, this one included; `workers_for` the items when None.
        chunk: items handed to a process at a time.

    Raises:
        InputError: `function` raised it (the first such item's, in their order), or a process died.
    """
    helpers = (workers_for(len(items)) if workers is None else workers) - 1
    chunks = [items[i : i + chunk] for i in range(0, len(items), chunk)]
    if helpers < 1 or len(chunks) < 2:
        yield from map(function, items)
        return
    done: list[Future[list[Result]]] = [Future() for _ in chunks]
    left: SimpleQueue[int] = SimpleQueue()
    for i in range(len(chunks)):
        left.put(i)
    team: list[_Helper] = []
    try:
        for _ in range(min(helpers, len(chunks) - 1)):
            team.append(_Helper(function, chunks, left, done))
            team[-1].start()
        first = 0
        while (mine := _next(left)) is not None:
            try:
                done[mine].set_result([function(item) for item in chunks[mine]])
            except Exception as error:
                done[mine].set_exception(error)
            while first < len(done) and done[first].done():
                yield from done[first].result()
                first += 1
        for future in done[first:]:
            yield from future.result()
    finally:
        while _next(left) is not None:
            pass
        for helper in team:
            helper.end()


def _next(left: "SimpleQueue[int]") -> int | None:
    try:
        return left.get_nowait()
    except Empty:
        return None


class _Helper(Thread):
    """Feeds one process and takes its results."""

    def __init__(
        self,
        function: Callable[[Any], Any],
        chunks: Sequence[Sequence[Any]],
        left: "SimpleQueue[int]",
        done: Sequence["Future[list[Any]]"],
    ):
        super().__init__(daemon=True)
        self.function, self.chunks, self.left, self.results = function, chunks, left, done
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _SERVE, *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is not for it; it ends with its input
            )
        except OSError as error:
            raise InputError(f"a worker process cannot be started ({error.strerror}); close other programs") from error

    def run(self) -> None:
        """Hand out chunks until none is left."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        given: deque[int] = deque()
        try:
            pickle.dump(self.function, self.process.stdin)
            while True:
                while len(given) < _AHEAD and (i := _next(self.left)) is not None:
                    given.append(i)
                    pickle.dump(self.chunks[i], self.process.stdin)
                self.process.stdin.flush()
                if not given:
                    return
                good, value = pickle.load(self.process.stdout)
                if good:
                    self.results[given.popleft()].set_result(value)
                else:
                    self.results[given.popleft()].set_exception(value)
        except Exception as error:  # whatever pickle raises, nobody may wait for these for ever
            died = InputError(f"a worker process died (out of memory?); {CONTINUE}")
            for i in given:
                self.results[i].set_exception(died if isinstance(error, OSError | EOFError) else error)

    def end(self) -> None:
        """Stop the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.join()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with suppress(BrokenPipeError):  # half an item is left in its buffer, and nobody is there to read it
                    stream.close()
