"""Nodes of a Ray cluster on this machine as processes of their own, for tests and for tests/perf/cluster.py.

A node may be put where it sees no file of some folders and no process of others, as on a machine of its own: it then
shares no results folder with its caller, and `Node.kill` ends all that runs on it at once, as a power failure does.
"""

import json
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

STORE = 100 * 2**20  # bytes of each node's object store
_QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0", "OMP_NUM_THREADS": "1"}
_FAST = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "3"}  # a death is seen in seconds


@cache
def can_be_hidden() -> bool:
    """Return whether this user may give a process other mounts and other process ids."""
    words = ["unshare", "-m", "-p", "-f", "--mount-proc", "mount", "-t", "tmpfs", "none", "/mnt"]
    return bool(shutil.which("unshare")) and subprocess.run(words, capture_output=True, check=False).returncode == 0


class Node:
    """A node in a process of its own."""

    def __init__(self, words: Sequence[object], hidden: Sequence[Path] = (), **environment: str):
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *words]
        ray += ["--object-store-memory", STORE]
        command = " ".join(shlex.quote(str(word)) for word in ray)
        for folder in hidden:
            command = f"mount -t tmpfs none {shlex.quote(str(folder))} && {command}"
        alone = ["unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc"] if can_be_hidden() else []
        self.log = tempfile.NamedTemporaryFile(suffix=".txt")  # noqa: SIM115  # it is read when something fails
        self.process = subprocess.Popen(
            [*alone, "sh", "-c", command],
            env={**os.environ, **_QUIET, **_FAST, **environment},
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def started(self) -> "Node":
        """Wait until the node has joined: of several on one machine that start at once, some fail."""
        deadline = time.monotonic() + 90
        while "Ray runtime started" not in (said := Path(self.log.name).read_text()):
            assert self.process.poll() is None, said
            assert time.monotonic() < deadline, said
            time.sleep(0.1)
        return self

    def kill(self) -> None:
        """End the node with SIGKILL; all its processes at once, where it has process ids of its own."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Nodes:
    """A cluster: a head that does no run, and nodes; `address` is the head's."""

    def __init__(self, token: str | None = None, **system: object) -> None:
        self.folder, self.token = tempfile.mkdtemp(prefix="rn-"), token or secrets.token_hex(32)
        os.environ.update({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": self.token})  # for what this process starts
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{free.getsockname()[1]}"
        port = self.address.rpartition(":")[2]
        own = ["--node-ip-address", "127.0.0.1", "--temp-dir", self.folder, "--include-dashboard", "false"]
        own += ["--system-config", json.dumps(system)] if system else []  # settings of Ray's own
        self.nodes = [Node(["--head", "--port", port, "--num-cpus", 0, *own]).started()]

    def add(self, cpus: int, hidden: Sequence[Path] = (), **environment: str) -> Node:
        """Start a node of so many CPUs that sees none of the `hidden` folders' files."""
        words = ["--address", self.address, "--node-ip-address", "127.0.0.1", "--num-cpus", cpus]
        self.nodes.append(Node(words, hidden, **environment).started())
        return self.nodes[-1]

    def close(self) -> None:
        """End all nodes."""
        for node in reversed(self.nodes):
            node.kill()
            node.log.close()
        for process in Path("/proc").glob("[0-9]*"):  # of nodes without process ids of their own
            with suppress(OSError):
                if self.folder.encode() in (process / "cmdline").read_bytes():
                    os.kill(int(process.name), signal.SIGKILL)
        shutil.rmtree(self.folder, ignore_errors=True)
