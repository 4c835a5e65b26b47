"""The console script and ``python -m lossbench``: minds Ctrl-C from the first moment on, whatever it falls into."""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from lossbench.memory import keep_freed_memory

_STOPPED = 130  # what shells call a process that Ctrl-C ended
_LINE = "error: stopped; the same command goes on where this one ended\n"


def main() -> None:
    """Run the command line; Ctrl-C ends it in one line and exit code 130, also while libraries are imported."""
    stopped = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped:  # pressed twice
            _leave()
        stopped = True
        raise KeyboardInterrupt

    def unraisable(swallowed: "sys.UnraisableHookArgs") -> None:
        if swallowed.exc_type is KeyboardInterrupt:  # it fell into a destructor or a callback, and would be lost
            _leave()
        sys.__unraisablehook__(swallowed)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # nohup and the like have it ignored
        signal.signal(signal.SIGINT, stop)
        sys.unraisablehook = unraisable
    keep_freed_memory()
    try:
        from lossbench.cli import main as run

        run()
    except BaseException as error:
        if not stopped:
            raise
        # else the command line has said it, or a library made another exception of it, or it came before that
        _leave(said=isinstance(error, SystemExit))


def _leave(*, said: bool = False) -> None:
    """End at once: everything on disk is whole or not there, and workers end with their parent.

    Python's own way out would still run what others registered, which Ctrl-C may have left half-made.
    """
    with suppress(OSError):  # nobody may read it any more
        sys.stdout.flush()
        sys.stderr.write("" if said else _LINE)
        sys.stderr.flush()
    os._exit(_STOPPED)


if __name__ == "__main__":
    main()
