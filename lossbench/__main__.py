"""The console script and ``python -m lossbench``: minds Ctrl-C and SIGTERM from the first moment on."""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

from lossbench.errors import stopped as how_it_goes_on


def main() -> None:
    """Run the command line; Ctrl-C ends it in one line and exit code 130, also while libraries are imported.

    So does SIGTERM, by which batch systems stop a job, in exit code 143.
    """
    stopped = 0  # the signal that did

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        if stopped or _importing(frame):  # pressed twice, or nothing of ours to tidy yet
            _leave(number)
        stopped = number
        raise KeyboardInterrupt

    def unraisable(swallowed: "sys.UnraisableHookArgs") -> None:
        if swallowed.exc_type is KeyboardInterrupt:  # it fell into a destructor or a callback, and would be lost
            _leave(stopped or signal.SIGINT)
        sys.__unraisablehook__(swallowed)

    for number, untouched in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(number) is untouched:  # nohup and the like have one ignored
            signal.signal(number, stop)
            sys.unraisablehook = unraisable
    try:
        from lossbench.utils.memory import keep_freed_memory

        keep_freed_memory()
        from lossbench.cli.main import main as run

        run()
    except BaseException as error:
        if not stopped:
            raise
        # else the command line has said it, or a library made another exception of it, or it came before that
        _leave(stopped, said=isinstance(error, SystemExit))


def _importing(frame: FrameType | None) -> bool:
    """Return whether a module is being imported: libraries lose an exception there, and torch's C++ aborts at one."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _leave(number: int, *, said: bool = False) -> None:
    """End at once with a signal's exit code: all on disk is whole or not there, and workers end with their parent.

    Python's own way out would still run what others registered, which Ctrl-C may have left half-made.
    """
    with suppress(OSError, RuntimeError):  # nobody may read it any more, or it was writing at this very moment
        sys.stdout.write("\033[?25h" if sys.stdout.isatty() else "")  # a progress bar hides the cursor
        sys.stdout.flush()
        sys.stderr.write("" if said else f"error: {how_it_goes_on(sys.argv[1:])}\n")
        sys.stderr.flush()
    os._exit(128 + number)  # what shells call a process that a signal ended


if __name__ == "__main__":
    main()
