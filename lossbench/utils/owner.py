"""A process, named so that others can tell on which machine it runs and, on the same one, whether it has ended."""

import os
import socket
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@cache
def this_machine() -> tuple[str, str]:
    """Return the host's name, and what only processes share that see each other's process ids.

    The latter is this boot of the machine and the namespace of process ids, which containers on one host may have for
    themselves; where the system tells neither, it is the network card.
    """
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return socket.gethostname(), f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    return socket.gethostname(), f"{uuid.getnode():x}"


@dataclass(frozen=True)
class Owner:
    """A process: its host's name, its machine (`this_machine`), its id, and when it was born, as its system counts."""

    host: str
    machine: str
    pid: int
    born: str

    @classmethod
    def this_process(cls) -> "Owner":
        """Return the calling process."""
        pid = os.getpid()
        _, born = _state_and_birth(pid)
        return cls(*this_machine(), pid, born)

    def is_dead(self) -> bool:
        """Return whether this process is known to have ended; False for any process of another machine.

        A process that has ended and that its parent has not asked about yet is dead. Windows does not tell.
        """
        if (self.host, self.machine) != this_machine() or os.name == "nt":
            return False
        try:
            os.kill(self.pid, 0)  # asks only; unlike /proc, it also knows the processes of other users
        except ProcessLookupError:
            return True
        except (PermissionError, OverflowError):
            return False
        state, born = _state_and_birth(self.pid)
        return state in ("Z", "X") or bool(born and self.born and born != self.born)  # another process with its id


def _state_and_birth(pid: int) -> tuple[str, str]:
    """Return the state's letter and the clock ticks between boot and birth; twice nothing without /proc."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # the name before may hold anything
        return fields[0], fields[19]
    except (OSError, IndexError):
        return "", ""
