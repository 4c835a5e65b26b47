"""All unusable images in one message, so that a folder can be fixed in one pass."""

from collections.abc import Sequence
from pathlib import Path

from lossbench.errors import InputError
from lossbench.utils.files import write_bytes
from lossbench.utils.text import shown

LIST = "unreadable.txt"


def unreadable(reasons: Sequence[str], folder: Path, what: str = "images") -> InputError:
    """Return the error to raise. Its line is the first reason; several reasons are also written to a file.

    Args:
        reasons: why an image cannot be used, one line per image, at least one.
        folder: where `LIST` is written if there is more than one reason.
        what: the plural of what they are.

    Raises:
        OSError: the folder cannot be written.
    """
    if len(reasons) == 1:
        return InputError(reasons[0])
    write_bytes(folder / LIST, "".join(f"{reason}\n" for reason in reasons).encode())
    return InputError(f"{reasons[0]} ({len(reasons):,} such {what} in {shown(folder / LIST)})")
