"""The console script and ``python -m lossbench``: handles Ctrl-C and SIGTERM from the first moment."""

import gc
import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from lossbench.errors import stopped as stopped_message
from lossbench.utils.launch import launch


def main() -> None:
    """Run the command line. Ctrl-C ends it with one line and exit code 130, even while libraries are being imported.

    SIGTERM, which batch systems send, does the same with exit code 143.
    """
    stopped = 0  # the signal received, if any

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped or _importing(frame):  # a second signal, or nothing of ours to clean up yet
            _leave(number)
        stopped = number
        raise KeyboardInterrupt

    def unraisable(swallowed: "sys.UnraisableHookArgs") -> None:
        if swallowed.exc_type is KeyboardInterrupt:  # raised in a destructor or a callback, where it would be lost
            _leave(stopped or signal.SIGINT)
        sys.__unraisablehook__(swallowed)

    for number, untouched in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is untouched:  # nohup, for one, ignores a signal: leave that as it is
            signal.signal(number, stop)
            sys.unraisablehook = unraisable
    try:
        from lossbench.utils.memory import keep_freed_memory

        keep_freed_memory()
        gc.disable()  # what is imported stays: looking through it again and again costs a quarter of the start-up
        from lossbench.cli.main import main as run

        gc.freeze()
        gc.enable()
        run()
    except BaseException as error:
        if not stopped:
            if launch().size > 1:  # torchrun ends us now: what there is to say has been said
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
            raise
        # SystemExit: the command line has reported it; else it came earlier, or a library replaced the exception
        _leave(stopped, reported=isinstance(error, SystemExit))
    finally:
        gc.freeze()  # the interpreter looks through all objects as it ends, which takes a second after scikit-learn


def _importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported: libraries then swallow exceptions, and torch's C++ code aborts."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave(number: int, *, reported: bool = False) -> None:
    """Exit at once with the exit code of a signal: files on disk are complete or absent, workers exit with the parent.

    A normal exit would run the exit handlers of libraries, whose state the signal may have left inconsistent.
    """
    with suppress(OSError, RuntimeError):  # the stream is closed, or the signal came in the middle of a write
        sys.stdout.write("\033[?25h" if sys.stdout.isatty() else "")  # a progress bar hides the cursor
        sys.stdout.flush()
        sys.stderr.write("" if reported or launch().silent else f"error: {stopped_message(sys.argv[1:])}\n")
        sys.stderr.flush()
    os._exit(128 + number)  # the exit code by which shells report a signal


if __name__ == "__main__":
    main()
