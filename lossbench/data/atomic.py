"""Files that are there whole or not at all."""

import os
from pathlib import Path


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
