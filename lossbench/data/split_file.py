"""split.json lists a prepared tree file by file, so that a later run can tell whether it has changed."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lossbench.data.set_files import SCHEMA, SPLIT, refuse_other_schema
from lossbench.errors import InputError
from lossbench.utils.files import write_bytes
from lossbench.utils.text import shown


@dataclass(frozen=True)
class Entry:
    """One file: its path in the tree, the SHA-256 of its bytes, its person, its split and its source."""

    path: str
    sha256: str
    identity: str
    split: str
    source: str
    landmarks: tuple[float, ...] | None
    facts: Mapping[str, str]


def write_manifest(root: Path, header: Mapping[str, Any], entries: Sequence[Entry]) -> None:
    """Write split.json, whole or not at all, one line per file."""
    lines = ",\n".join("  " + json.dumps(asdict(entry), ensure_ascii=False) for entry in entries)
    head = json.dumps({"schema": SCHEMA, **header}, indent=1, ensure_ascii=False)
    write_bytes(root / SPLIT, f'{head[:-2]},\n "files": [\n{lines}\n ]\n}}\n'.encode())


@dataclass(frozen=True)
class SplitFile:
    """A set's split.json as read: its folder, its content, the SHA-256 of its bytes, and that of each listed image.

    None is listed where the images are packed in another file: `PackedSet` compares these.
    """

    root: Path
    content: Mapping[str, Any]
    sha256: str
    listed: Mapping[str, str]

    @staticmethod
    def of(root: Path) -> "SplitFile | None":
        """Return a tree's split.json, or None if there is none.

        Raises:
            InputError: the file is damaged, or of a newer lossbench.
        """
        path = root / SPLIT
        try:
            data = path.read_bytes()
            found = json.loads(data)
            for entry in found["files"]:
                if not all(isinstance(entry[key], str) for key in ("path", "sha256", "identity", "split")):
                    raise ValueError("an entry of files is not text")
                if entry["path"].count("/") < 2:
                    raise ValueError("a path is not PART/PERSON/IMAGE")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            what = f"is damaged ({type(error).__name__}: {shown(str(error))})"
            raise InputError(f"{shown(path)} {what}; prepare the data again, or use --no-verify") from error
        refuse_other_schema(path, found)
        listed = {entry["path"]: entry["sha256"] for entry in found["files"]}
        return SplitFile(root, found, hashlib.sha256(data).hexdigest(), listed)

    def layout_faults(self, names: Sequence[str]) -> list[str]:
        """Compare the tree's layout with split.json, and return a line per file that was moved, added or removed.

        Args:
            names: the paths, relative to the tree, of all images in it.
        """
        listed, there = set(self.listed), set(names)
        gone = {path.split("/", 1)[1]: path for path in sorted(listed - there)}
        faults = []
        for name in sorted(there - listed):
            if was := gone.pop(name.split("/", 1)[1], None):
                what = f"was made as {was}; its split was changed later: move it back"
            else:
                what = f"is not in {SPLIT}: it was added after the split was made; remove it"
            faults.append(f"{shown(self.root / name)} {what}")
        return faults + [f"{shown(self.root / path)} is in {SPLIT} but missing; put it back" for path in gone.values()]

    def content_faults(self, names: Sequence[str], digests: Sequence[str]) -> list[str]:
        """Compare the files' content with split.json, and return a line per file that changed.

        Args:
            names: N paths relative to the tree; files that split.json does not list are left to `layout_faults`.
            digests: their SHA-256.
        """
        listed, origin = self.listed, {sha256: path for path, sha256 in self.listed.items()}
        faults = []
        for name, digest in zip(names, digests, strict=True):
            if listed.get(name, digest) != digest:
                was = f"it now holds what was {origin[digest]}" if digest in origin else "its content changed"
                faults.append(f"{shown(self.root / name)} is not the file that {SPLIT} describes: {was}; restore it")
        return faults

    def verify_layout(self, names: Sequence[str]) -> None:
        """Refuse a tree whose files were moved, added or removed; fast, since no file is opened.

        Raises:
            InputError: `layout_faults` found one.
        """
        refuse(self.layout_faults(names))

    def verify_content(self, names: Sequence[str], digests: Sequence[str]) -> None:
        """Refuse a tree with files that changed.

        Raises:
            InputError: `content_faults` found one.
        """
        refuse(self.content_faults(names, digests))


def refuse(faults: Sequence[str]) -> None:
    """Refuse a set in which files changed.

    Raises:
        InputError: there is a line; the first is quoted.
    """
    if faults:
        more = f" ({len(faults):,} such files)" if faults[1:] else ""
        raise InputError(f"{faults[0]}{more}, prepare the data again, or skip this check with --no-verify")
