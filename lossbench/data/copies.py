"""Images that two splits share, byte by byte: what is measured on them was seen in training, or is another person's."""

from collections.abc import Sequence

import numpy as np

from lossbench.data.faces import FaceSet
from lossbench.utils.text import shown


def shared_by_splits(faces: FaceSet, digests: Sequence[str]) -> str:
    """Return a line on files of one split whose content another split has, too; empty where there are none.

    Args:
        faces: the data.
        digests: SHA-256 of the content of each of its N files.
    """
    starts = np.sort(np.fromiter((int(digest[:15], 16) for digest in digests), np.int64, len(digests)))
    copied = set(starts[1:][starts[1:] == starts[:-1]].tolist())  # 8 bytes a file: there may be millions
    if not copied:
        return ""
    found: dict[int, int] = {}  # row of a copy -> row of what it copies, in another split
    for split in faces.folds:
        first: dict[str, tuple[int, str]] = {}
        for name, part in split.parts():
            for row in part.rows:
                if int(digests[row][:15], 16) in copied and first.setdefault(digests[row], (row, name))[1] != name:
                    found.setdefault(row, first[digests[row]][0])
    if not found:
        return ""
    copy, of = next(iter(found.items()))
    are, they = ("files are copies", "them") if len(found) > 1 else ("file is a copy", "it")
    return (
        f"{len(found):,} {are} of one in another split, such as {shown(faces.names[copy])} of "
        f"{shown(faces.names[of])}: figures on {they} are too good; lossbench data check lists all, and near-duplicates"
    )
