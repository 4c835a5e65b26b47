"""Files that are written whole or not at all, what a folder holds, and paths that are refused."""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import BinaryIO

from lossbench.errors import InputError
from lossbench.utils.text import clipped, shown

#: What temporary names of this process end in, where no fence says otherwise; other hosts have the same process ids.
_OURS = os.urandom(4).hex()  # not secrets, which takes as long to import as all of --help
_fence: ContextVar[tuple[str, Callable[[], None]] | None] = ContextVar("fence", default=None)


@contextmanager
def fenced(mark: str, check: Callable[[], None]) -> Iterator[None]:
    """Let `check` stop what this thread writes in the context: it is called before a `whole_file` is renamed.

    Args:
        mark: what temporary names end in, so that the files can be told from those of others.
        check: raises where the files are no longer this process's to write.
    """
    before = _fence.set((mark, check))
    try:
        yield
    finally:
        _fence.reset(before)


def heed_fence() -> None:
    """Raise what the `check` of `fenced` raises; to be called before files are changed without `whole_file`."""
    if fence := _fence.get():
        fence[1]()


def temporary_mark() -> str:
    """Return what temporary names of this process end in."""
    fence = _fence.get()
    return fence[0] if fence else f"{os.getpid()}-{_OURS}"


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing under a temporary name beside `path`; it is renamed to `path` once the block succeeds.

    Raises:
        OSError: the disk is full or the folder cannot be written; nothing is left behind, and an older file is kept.
        BaseException: as the `check` of `fenced` raises.
    """
    half = half_of(path)
    try:
        with half.open("wb") as file:
            yield file
        put_in_place(half, path)
    finally:
        half.unlink(missing_ok=True)


def half_of(path: Path) -> Path:
    """Return the temporary name of a file while it is written."""
    return path.with_name(f".{path.name}.{temporary_mark()}")


def put_in_place(half: Path, path: Path) -> None:
    """Rename a file that is written to its name, if the `check` of `fenced` allows it.

    Raises:
        OSError: the folder cannot be written.
        BaseException: as that `check` raises.
    """
    heed_fence()
    try:
        half.replace(path)
    except FileNotFoundError:
        heed_fence()  # deleted by the process that the file now belongs to
        raise


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Write a file, whole or not at all.

    Raises:
        OSError: as `whole_file`.
    """
    with whole_file(path) as file:
        file.write(data)


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8, whole or not at all; what UTF-8 has no bytes for is escaped."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def refuse_traversal(name: str, where: str) -> str:
    """Return a relative path as given.

    Raises:
        InputError: it is absolute, holds '.' or '..' as a step, or control characters.
    """
    parts = name.replace("\\", "/").split("/")
    if not name or {".", ".."} & set(parts) or parts[0] == "" or ":" in parts[0] or any(c < " " for c in name):
        raise InputError(f"{where}: '{clipped(name)}' is not a path inside the data folder; use PERSON/FILE")
    return name


def check_name(path: Path) -> None:
    """Refuse a name that cannot be written to a text file, and a link that leads nowhere.

    Raises:
        InputError: control characters or bytes that are not UTF-8 in its name; a broken or looping link; or a folder
            above it may not be entered.
    """
    name = path.name
    if any(c < " " or "\ud800" <= c <= "\udfff" or c == "\x7f" for c in name):
        raise InputError(
            f"'{shown(path)}' has a control character, such as a tab or line break, or bytes that are not UTF-8 in its "
            "name; rename it"
        )
    if stat.S_ISLNK(_mode(path, follow=False)) and not _mode(path):
        raise InputError(f"{shown(path)} is a link that leads nowhere or in a circle; remove it")


def is_folder(path: Path) -> bool:
    """Return whether a folder is there, or a link to one.

    Raises:
        InputError: a folder above it may not be entered.
    """
    return stat.S_ISDIR(_mode(path))


def is_file(path: Path) -> bool:
    """Return whether a file is there, or a link to one.

    Raises:
        InputError: as `is_folder`.
    """
    return stat.S_ISREG(_mode(path))


def _mode(path: Path, *, follow: bool = True) -> int:
    """Return the mode of what is there, 0 for nothing; `Path.is_dir` and the like differ between Pythons in errors."""
    try:
        return path.stat(follow_symlinks=follow).st_mode
    except ValueError:  # a null character
        return 0
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            return 0
        raise InputError(f"{shown(path)} {_closed(error)}") from error


#: What systems and archives put into folders of images: thumbnails and bins of Synology, macOS and Windows.
_LITTER = {"@eadir", "__macosx", "#recycle", "$recycle.bin", "system volume information", "lost+found", "thumbs.db"}


def is_litter(name: str) -> bool:
    """Return whether an entry of this name is hidden, or put there by an operating system."""
    return name.startswith(".") or name.lower() in _LITTER


def listed(folder: Path) -> list[Path]:
    """Return what is in a folder by name, litter left out.

    Raises:
        InputError: the folder cannot be read.
    """
    try:
        return sorted(entry for entry in folder.iterdir() if not is_litter(entry.name))
    except OSError as error:
        raise InputError(f"{shown(folder)} {_closed(error)}") from error


def _closed(error: OSError) -> str:
    return f"cannot be read ({error.strerror}); change its permissions or remove it"


def check_path(path: str | Path, option: str) -> None:
    """Refuse a path that no disk can hold; whether anything is there is not asked.

    Raises:
        InputError: it is too long, or holds a null character.
    """
    try:
        os.lstat(path)
    except ValueError:
        raise InputError(f"{option} '{clipped(str(path))}' holds a null character; leave it out") from None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InputError(f"{option} {too_long(path)}") from None


def too_long(path: str | Path) -> str:
    """Return what to say of a path that is longer than the file system allows."""
    return f"'{clipped(str(path))}' is longer than a file name or a path can be; use a shorter one"
