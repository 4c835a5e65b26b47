"""Files that are there whole or not at all."""

import os
from pathlib import Path

from lossbench.errors import InputError
from lossbench.utils.text import clipped


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file under a temporary name beside it, then rename it.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        half.write_bytes(data)
        half.replace(path)
    finally:
        half.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all: a temporary file beside it, renamed."""
    write_bytes(path, text.encode("utf-8"))


def refuse_traversal(name: str, where: str) -> str:
    """Return a relative path as given.

    Raises:
        InputError: it is absolute, holds '.' or '..' as a step, or control characters.
    """
    parts = name.replace("\\", "/").split("/")
    if not name or {".", ".."} & set(parts) or parts[0] == "" or ":" in parts[0] or any(c < " " for c in name):
        raise InputError(f"{where}: '{clipped(name)}' is not a path inside the data folder; use PERSON/FILE")
    return name
