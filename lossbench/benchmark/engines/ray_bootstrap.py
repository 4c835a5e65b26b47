"""What a node runs before it has lossbench: the standard library alone, sent by value.

A node that has lossbench with the same content uses its own; any other gets a copy in its folder of temporary files.
"""

import hashlib
import importlib
import importlib.util
import os
import pickle
import platform
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

#: What must be the same everywhere, as the hash of a run says which were used; by the name of the package.
PACKAGES = ("torch", "torchvision", "timm", "pytorch-metric-learning", "pillow", "numpy", "scipy", "scikit-learn")
CHUNK = 16 * 2**20  # bytes that travel at a time


class Facts(NamedTuple):
    """What a node has: its host's name, Python, packages, the digest of its lossbench, and whether it sees a file."""

    host: str
    python: str
    packages: dict[str, str | None]
    lossbench: str | None
    sees: bool


class Code(NamedTuple):
    """Lossbench itself: its version, digest, and files by their paths in a folder of packages."""

    version: str
    digest: str
    files: dict[str, bytes]


def facts(seen: str) -> Facts:
    """Return what this process's node has; `seen` is the path of the file that it may see."""
    spec = importlib.util.find_spec("lossbench")
    found = spec and spec.origin and digest_of(files_of(Path(spec.origin).parent))
    python = ".".join(platform.python_version_tuple()[:2])
    return Facts(
        socket.gethostname(), python, {name: _version(name) for name in PACKAGES}, found or None, Path(seen).exists()
    )


def files_of(package: Path) -> dict[str, bytes]:
    """Return lossbench's files as a folder of packages would hold them, the plugins that come with it included."""
    plugins = next((p for p in (package / "plugins", package.parent / "plugins") if (p / "ce.py").is_file()), None)
    files = {f"lossbench/{file.relative_to(package).as_posix()}": file for file in package.rglob("*")}
    files |= {f"lossbench/plugins/{file.name}": file for file in plugins.glob("*.py")} if plugins else {}
    kept = {name: file for name, file in files.items() if file.is_file() and "__pycache__" not in name}
    return {name: kept[name].read_bytes() for name in sorted(kept)}


def digest_of(files: dict[str, bytes]) -> str:
    """Return the SHA-256 over the paths and the content of files."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def train(digest: str, code: Code, job: bytes, run: bytes) -> Iterator[Any]:
    """Do a run in this process, which may not have lossbench yet; yields what `ray_node.train` yields.

    Args:
        digest: of the lossbench that the caller runs.
        code: that lossbench.
        job: a pickled `Job`, whose classes are lossbench's.
        run: likewise, a pickled `Task`.
    """
    if "lossbench" not in sys.modules and facts("").lossbench != digest:
        sys.path.insert(0, str(_unpacked(code)))
        importlib.invalidate_caches()
    try:
        node = importlib.import_module("lossbench.benchmark.engines.ray_node")
    except KeyboardInterrupt:  # cancelled; Ray would use this process again, with what is imported by half
        os._exit(1)
    yield from node.train(pickle.loads(job), pickle.loads(run))


def _unpacked(code: Code) -> Path:
    """Return a folder of packages on this node that holds the code, written if it is not there."""
    owner = os.getuid() if hasattr(os, "getuid") else 0
    place = Path(tempfile.gettempdir(), f"lossbench-{owner}-{code.digest[:16]}")
    if _is_whole(place, owner, code.digest):
        return place
    half = Path(tempfile.mkdtemp(prefix=f"{place.name}."))
    for name, content in code.files.items():
        (half / name).parent.mkdir(parents=True, exist_ok=True)
        (half / name).write_bytes(content)
    metadata = half / f"lossbench-{code.version}.dist-info" / "METADATA"  # records name the version
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: lossbench\nVersion: {code.version}\n")
    try:
        half.rename(place)
    except OSError:
        if not _is_whole(place, owner, code.digest):
            return half  # what is there is damaged, or another user's
        shutil.rmtree(half)  # another process of this node was faster
    return place


def _is_whole(place: Path, owner: int, digest: str) -> bool:
    """Return whether a folder is this user's and holds the code; anybody may write to the folder above it."""
    package = place / "lossbench"
    return package.is_dir() and place.stat().st_uid == owner and digest_of(files_of(package)) == digest


class Desk:
    """An actor beside the caller: it collects what runs report, and hands out files that nodes lack, in chunks."""

    def __init__(self, files: dict[str, str]):
        self.files, self.said, self.digests = files, list[tuple[int, str, Any]](), dict[str, str]()

    def say(self, flight: int, kind: str, content: Any) -> None:
        """Take one message of a run."""
        self.said.append((flight, kind, content))

    def heard(self) -> list[tuple[int, str, Any]]:
        """Return the messages since the last call."""
        said, self.said = self.said, []
        return said

    def digest(self, name: str) -> str:
        """Return the SHA-256 of a file."""
        if name not in self.digests:  # every process asks, and nobody is heard while a large file is read
            with open(self.files[name], "rb") as file:  # noqa: PTH123
                self.digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
        return self.digests[name]

    def chunk(self, name: str, start: int) -> bytes:
        """Return up to `CHUNK` bytes of a file."""
        with open(self.files[name], "rb") as file:  # noqa: PTH123
            file.seek(start)
            return file.read(CHUNK)
