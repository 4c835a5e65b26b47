"""The other end of `in_parallel`: a process that applies a function to what comes in. Imports little, to start fast."""

import os
import pickle
import sys
import traceback
from queue import SimpleQueue
from threading import Thread
from typing import Any


def serve() -> None:
    """Read a function and then lists of items from standard input, and write the results of each list as they come.

    A result is (True, list) or (False, exception). Ends with its input, at once: that is how it follows a parent that
    was killed.
    """
    results = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not end up among the results
    jobs: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_read, args=(jobs,), daemon=True).start()
    function = jobs.get()
    while True:
        items = jobs.get()
        try:
            answer: tuple[bool, Any] = True, [function(item) for item in items]
        except Exception as error:
            answer = False, error
        try:
            data = pickle.dumps(answer)
            pickle.loads(data)  # some exceptions are pickled and cannot be read again
        except Exception:
            data = pickle.dumps((False, RuntimeError(repr(answer[1])[:500])))
        results.write(data)
        results.flush()


def _read(jobs: "SimpleQueue[Any]") -> None:
    code = 0
    try:
        while True:
            jobs.put(pickle.load(sys.stdin.buffer))
    except EOFError:
        pass
    except Exception:
        traceback.print_exc()
        code = 1
    os._exit(code)
