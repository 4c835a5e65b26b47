"""The files by which a prepared or packed set is known. Imports nothing heavy: listing data does without numpy."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lossbench.errors import InputError
from lossbench.utils.files import is_file
from lossbench.utils.text import shown

SPLIT = "split.json"  # of every prepared set
TABLE = "images.npy"  # of a set whose images stay packed in another file
REC = "train.rec"  # of an InsightFace training set
SCHEMA = 1  # of split.json


def is_prepared(root: Path) -> bool:
    """Return whether a folder is a set that lossbench prepared: what stands beside its folders is lossbench's own."""
    return is_file(root / SPLIT)


def is_packed(root: Path) -> bool:
    """Return whether a folder is a prepared set whose images stay packed in another file."""
    return is_file(root / TABLE)


def refuse_other_schema(path: Path, content: Mapping[str, Any]) -> None:
    """Refuse the content of a split.json that another version of lossbench wrote.

    Raises:
        InputError: its schema is not `SCHEMA`.
    """
    if (schema := content.get("schema")) != SCHEMA:
        raise InputError(f"{shown(path)} has schema {shown(schema)}, this lossbench reads {SCHEMA}; upgrade lossbench")
