"""What a folder holds beside the images that are read from it, counted, so that nothing is left out in silence."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from lossbench.data.images.recordio import ImagePlace
from lossbench.data.set_files import is_prepared
from lossbench.data.tree import PARTS, SUFFIXES
from lossbench.utils.files import is_folder, is_litter
from lossbench.utils.text import clipped, listed


def left_out(root: Path, used: Iterable[ImagePlace], *, people: bool = True) -> str:
    """Return what is left out below a folder, and why, as one phrase; empty where everything is used.

    Args:
        root: a folder of one folder per person, or any folder.
        used: the images that are read.
        people: whether only images in a person's folder are read, which may be a link; other files beside those
            folders, such as a list of landmarks, are no photos and are not counted.

    Example:
        ``4 files: 2 .heic and 1 without a suffix (not read: convert them to .jpg), 1 image in deeper folders``
    """
    known = {os.fspath(file) for file in used if isinstance(file, Path)}
    kinds: Counter[tuple[int, str]] = Counter()
    prepared = is_prepared(root)
    for top in _tops(root, people=people):
        for folder, inner, files in os.walk(top):
            depth = 0 if folder == os.fspath(root) else len(Path(folder).relative_to(root).parts)
            litter = depth > 0 and any(is_litter(part) for part in Path(folder).relative_to(root).parts)
            for name in files if depth or not prepared else ():
                if os.path.join(folder, name) not in known and (kind := _kind(name, depth, litter, people)):  # noqa: PTH118
                    kinds[kind] += 1
            linked = sum(os.path.islink(os.path.join(folder, name)) for name in inner)  # noqa: PTH114, PTH118
            if linked and not (people and depth == 0):
                kinds[_LINK] += linked
    if not kinds:
        return ""
    unread = [f"{count:,} {suffix}" for (rank, suffix), count in sorted(kinds.items()) if rank == 0]
    parts = [f"{listed(unread)} (not read: convert photos to .jpg)"] if unread else []
    parts += [f"{count:,} {what}" for (rank, what), count in sorted(kinds.items()) if rank]
    total = sum(kinds.values())
    return f"{total:,} file{'s' * (total > 1)}: {', '.join(parts)}"


def left_out_of_tree(root: Path, used: Iterable[ImagePlace], parts: Sequence[str] = PARTS) -> list[str]:
    """Return ``PART/: PHRASE`` for every part of a data tree in which something is left out."""
    files = list(used)
    found = {part: left_out(root / part, files) for part in parts if is_folder(root / part)}
    return [f"{part}/: {what}" for part, what in found.items() if what]


_LITTER = (3, "hidden or in folders of an operating system, such as @eaDir")
_LINK = (4, "linked folders")


def _tops(root: Path, *, people: bool) -> list[str]:
    linked = [e.path for e in os.scandir(root) if e.is_symlink() and is_folder(Path(e.path))] if people else []
    return [os.fspath(root), *sorted(linked)]


def _kind(name: str, depth: int, litter: bool, people: bool) -> tuple[int, str] | None:
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 (a path per file would cost more than all the rest)
    image = suffix in SUFFIXES
    if litter or is_litter(name):
        return _LITTER if image else None
    if image:
        deeper = "images in deeper folders" if depth > 1 else "images outside of folders of people"
        return (1, deeper) if people else None
    if people and depth == 0:
        return None
    return (0, clipped(suffix, 12) if suffix else "without a suffix")
