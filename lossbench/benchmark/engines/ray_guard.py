"""A last line where Ray ends this process: its core calls _exit once the node here is lost, and no Python runs then."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from lossbench.errors import CONTINUE

_DONE = b"done"
_WATCH = f"""
import sys
if sys.stdin.buffer.read() != {_DONE!r}:
    sys.stderr.write(sys.argv[1])
"""


@contextmanager
def loss_told(where: str) -> Iterator[None]:
    """Say, from a process beside this one, that this one was ended before the context was left.

    Args:
        where: the cluster, as the user knows it.
    """
    line = f"error: {where} is lost, or this command was killed; {CONTINUE}\n"
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _WATCH, line],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,  # Ctrl-C is not for it
    ) as watch:  # fmt: skip
        assert watch.stdin
        try:
            yield
        finally:
            with suppress(OSError):  # somebody has killed it
                watch.stdin.write(_DONE)
                watch.stdin.close()
