"""split.json: what a prepared tree is, file by file, so that a later run can tell whether it still is that."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lossbench.data.atomic import write_bytes
from lossbench.data.decode import shown
from lossbench.errors import InputError

NAME = "split.json"
SCHEMA = 1


@dataclass(frozen=True)
class Entry:
    """One file: its path in the tree, the SHA-256 of its bytes, who is on it, its split, where it came from."""

    path: str
    sha256: str
    identity: str
    split: str
    source: str
    landmarks: tuple[float, ...] | None
    facts: Mapping[str, str]


def write_manifest(root: Path, header: Mapping[str, Any], entries: Sequence[Entry]) -> None:
    """Write split.json, whole or not at all, a line per file."""
    lines = ",\n".join("  " + json.dumps(asdict(entry), ensure_ascii=False) for entry in entries)
    head = json.dumps({"schema": SCHEMA, **header}, indent=1, ensure_ascii=False)
    write_bytes(root / NAME, f'{head[:-2]},\n "files": [\n{lines}\n ]\n}}\n'.encode())


def read_manifest(root: Path) -> dict[str, Any] | None:
    """Return a tree's split.json, or None where there is none.

    Raises:
        InputError: the file is damaged, or of a newer lossbench.
    """
    path = root / NAME
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        for entry in found["files"]:
            entry["path"], entry["sha256"], entry["identity"], entry["split"]
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{shown(path)} is damaged ({error!r}); prepare the data again, or use --no-verify") from error
    if found.get("schema") != SCHEMA:
        raise InputError(
            f"{shown(path)} has schema {found.get('schema')}, this lossbench reads {SCHEMA}; upgrade lossbench"
        )
    return dict(found)


def verify_layout(root: Path, manifest: Mapping[str, Any], names: Sequence[str]) -> None:
    """Compare which files are where with split.json; fast, no file is opened.

    Args:
        root: the tree, for messages.
        manifest: from `read_manifest`.
        names: the paths, relative to `root`, of all images in the tree.

    Raises:
        InputError: a file was moved, added or removed after the split was made.
    """
    listed = {entry["path"]: entry for entry in manifest["files"]}
    there = set(names)
    moved = {path.split("/", 1)[1]: path for path in listed if path not in there}
    for name in sorted(there - set(listed)):
        was = moved.get(name.split("/", 1)[1])
        if was:
            raise InputError(
                f"{shown(root / name)} was made as {was}: its split changed after the fact; move it back, {_ELSE}"
            )
        raise InputError(
            f"{shown(root / name)} is not in {NAME}: it was added after the split was made; remove it, {_ELSE}"
        )
    if moved:
        first = min(moved.values())
        raise InputError(f"{shown(root / first)} is in {NAME} but gone ({len(moved)} files are); put it back, {_ELSE}")


def verify_content(root: Path, manifest: Mapping[str, Any], names: Sequence[str], digests: Sequence[str]) -> None:
    """Compare what is in the files with split.json.

    Args:
        root: the tree, for messages.
        manifest: from `read_manifest`.
        names: N paths relative to `root`.
        digests: their SHA-256.

    Raises:
        InputError: a file's content changed.
    """
    listed = {entry["path"]: entry for entry in manifest["files"]}
    origin = {entry["sha256"]: entry["path"] for entry in manifest["files"]}
    for name, digest in zip(names, digests, strict=True):
        if listed[name]["sha256"] != digest:
            was = f"it now holds what was {origin[digest]}" if digest in origin else "its content changed"
            raise InputError(f"{shown(root / name)} is not the file that {NAME} describes: {was}; restore it, {_ELSE}")


_ELSE = "prepare the data again, or skip this test with --no-verify"
