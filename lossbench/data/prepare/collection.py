"""A photo collection before it is split: the person and the face position of each file.

Readers: a tree of one folder per person (here), LFW (here) and CelebA (`lossbench.data.prepare.celeba`).
"""

import csv
import io
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lossbench.data.left_out import left_out
from lossbench.data.tree import PARTS, people_in
from lossbench.errors import InputError
from lossbench.utils.files import is_folder, refuse_traversal
from lossbench.utils.text import clipped, shown, some

Landmarks = tuple[float, ...]  # x1 y1 ... x5 y5: left eye, right eye, nose, left and right corner of the mouth


@dataclass(frozen=True)
class Photo:
    """One file. `landmarks` are in pixels of the upright image; None takes the collection's face box instead."""

    path: Path
    person: str
    landmarks: Landmarks | None = None
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Collection:
    """Photos, sorted by person and file, and notes about them.

    `face_box` is where the face is on a photo without landmarks, as shares of the shorter side about the image's
    centre: x and y of the box's centre (0.5: the middle) and its side. `absent` names listed files that are missing.
    """

    kind: str
    root: Path
    photos: tuple[Photo, ...]
    face_box: tuple[float, float, float] = (0.5, 0.5, 1.0)
    absent: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def per_person(self) -> dict[str, int]:
        """Return the number of photos of every person."""
        return dict(Counter(photo.person for photo in self.photos))


# LFW's images are 250x250 with the face in the middle; scikit-learn's fetch_lfw_people takes rows 70 to 195 and columns
# 78 to 172 as the part without background. The square of that height about the same centre:
LFW_BOX = (125 / 250, 132.5 / 250, 125 / 250)


def read_folder(
    root: Path, landmarks: Path | None = None, *, kind: str = "folder", keep_unmarked: bool = False
) -> Collection:
    """Read a tree of one folder per person; what else is in it is counted in the notes.

    Args:
        root: the tree.
        landmarks: a CSV of path (relative to `root`) and ten numbers per row; photos without them are left out.
        kind: folder or lfw.
        keep_unmarked: keep photos without landmarks, to be cropped as if no file had been given.

    Raises:
        InputError: no such folder, no images in it, a tree that is already split, or a malformed CSV.
    """
    if not is_folder(root):
        raise InputError(f"--root: no folder {shown(root)}; give a folder that holds one folder per person")
    if all(is_folder(root / part) for part in PARTS):
        raise InputError(f"--root: {shown(root)} is already split; use it as it is: lossbench run --data {shown(root)}")
    known = read_landmark_csv(landmarks) if landmarks else None
    photos, unknown, seen, empty = [], 0, [], []
    for person, files in people_in(root):
        seen += files
        empty += [] if files else [person.name]
        for file in files:
            name = f"{person.name}/{file.name}".replace("\\", "/")  # as `read_landmark_csv` reads it
            points = known.pop(name, None) if known is not None else None
            if known is not None and points is None:
                unknown += 1
            if known is None or points is not None or keep_unmarked:
                photos.append(Photo(file, person.name, points))
    ignored = left_out(root, seen)
    if not seen:
        found = f"; it holds {ignored}" if ignored else ""
        what = f"holds no images in folders of people; expected {shown(root)}/PERSON/FILE.jpg"
        raise InputError(f"--root: {shown(root)} {what}{found}")
    if not photos or unknown == len(seen):
        raise InputError(_no_row_fits(landmarks, seen[0].relative_to(root), tuple(known or ())))
    notes = [f"left out: {ignored}"] if ignored else []
    if empty:
        holds = "folder holds" if len(empty) == 1 else "folders hold"
        notes.append(f"{len(empty):,} {holds} no images that are read: {some(empty)}")
    if unknown:
        what = "cropped about the centre" if keep_unmarked else "left out"
        notes.append(f"{unknown:,} images have no landmarks in {landmarks} and are {what}")
    box = LFW_BOX if kind == "lfw" else (0.5, 0.5, 1.0)
    return Collection(kind, root, tuple(photos), box, tuple(known or ()), tuple(notes))


def _no_row_fits(landmarks: Path | None, photo: Path, rows: tuple[str, ...]) -> str:
    has = f"its first row is of '{clipped(rows[0])}'" if rows else "it has no rows"
    return (
        f"--landmarks {landmarks} has no row for any photo: {has}, where '{shown(photo.as_posix())}' would fit; give "
        "PERSON/FILE as below --root"
    )


def read_landmark_csv(path: Path) -> dict[str, Landmarks]:
    """Read landmarks by path from eleven columns separated by commas, semicolons, tabs or blanks.

    A first row without numbers is a header, and may name further columns, which are not read, such as those that
    `--detect` writes. A path whose ten numbers are left blank there has no landmarks. Beside other separators a comma
    may be the decimal point. Paths may be written with backslashes, as on Windows, or begin with ``./``.

    Raises:
        InputError: the file cannot be read; a row is not a path and ten numbers; a path occurs twice or leaves the
            folder.
    """
    found: dict[str, Landmarks] = {}
    try:
        lines = io.StringIO(_text(path.read_bytes()), newline="").readlines()
        delimiter = _delimiter(lines)
        rows = map(str.split, lines) if delimiter == " " else csv.reader(lines, delimiter=delimiter)
        first, columns, names = True, 11, set[str]()
        for number, row in enumerate(rows, 1):
            cells = [_plain(cell, delimiter) if i else cell.strip() for i, cell in enumerate(row)]
            if not any(cells):
                continue
            is_header, first = first and not any(map(_is_number, cells[1:])), False
            if is_header:
                columns = max(columns, len(cells))
                continue
            name = refuse_traversal(cells[0].replace("\\", "/").removeprefix("./"), f"{path} line {number}")
            if name in names:
                raise InputError(f"{path} line {number}: '{clipped(name)}' occurs twice; keep one row")
            names.add(name)
            ten = cells[1 : 11 if columns > 11 and len(cells) <= columns else None]
            if columns == 11 or any(ten):
                found[name] = ten_numbers(ten, f"{path} line {number}")
    except OSError as error:
        raise InputError(f"--landmarks {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"--landmarks {path} is not a CSV in UTF-8: {error}") from error
    return found


def _text(data: bytes) -> str:
    """Decode UTF-8, or UTF-16 with its mark, as Excel writes "Unicode text"."""
    return data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")


def _plain(cell: str, delimiter: str) -> str:
    """Return a cell with a decimal point, where commas do not separate: Excel writes 71,5 in half of Europe."""
    return cell.strip() if delimiter == "," else cell.strip().replace(",", ".")


def _delimiter(lines: Sequence[str]) -> str:
    """Return what separates a path from ten numbers in the first row that has them; else a comma."""
    for line in lines[:10]:
        for delimiter in ",;\t":
            if sum(_is_number(_plain(cell, delimiter)) for cell in line.split(delimiter)) >= 10:
                return delimiter
        if sum(map(_is_number, line.split())) >= 10:
            return " "
    return next((d for d in ",;\t" if any(line.count(d) >= 2 for line in lines[:10])), ",")


def ten_numbers(cells: list[str], where: str) -> Landmarks:
    """Return ten finite numbers.

    Raises:
        InputError: there are not ten, or one is not a finite number.
    """
    if len(cells) != 10 or not all(_is_number(cell) for cell in cells):
        raise InputError(
            f"{where}: '{clipped(' '.join(cells))}' should be ten numbers, x and y of two eyes, nose, two "
            "corners of the mouth"
        )
    return tuple(float(cell) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        return math.isfinite(float(cell))
    except ValueError:
        return False
