"""Templates and pairs of them, as IJB-B and IJB-C list them or as CSV. Lists of many million pairs are read in parts.

IJB's files have no header and blanks between fields: ``ijbb_face_tid_mid.txt`` (image, template, medium) and
``ijbb_template_pair_label.txt`` (template, template, 1 for one person or 0). As CSV: image, template, media, and where
they are known person and score (by which the image's feature is multiplied); template1, template2, label.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lossbench.errors import InputError
from lossbench.utils.files import is_file, refuse_traversal
from lossbench.utils.text import clipped, described, shown

_CHUNK = 1_000_000  # pairs that are read at a time
_IJB, _PAIRED = ("image", "template", "media"), ("template1", "template2", "label")

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TemplateSet:
    """T templates over the images `files`, and P pairs of them.

    Of the M entries, `rows` says the image, `templates` the template (0..T-1), `media` the medium, `weights` the
    detector's score where the list has one. `people` names who is on each template, None where the list does not say.
    `a` and `b` are the templates of each pair (int32), `same` whether they show one person.
    """

    name: str
    files: tuple[Path, ...]
    rows: Integers
    templates: Integers
    media: Integers
    weights: npt.NDArray[np.float64] | None
    ids: tuple[str, ...]
    people: tuple[str, ...] | None
    a: npt.NDArray[np.int32]
    b: npt.NDArray[np.int32]
    same: npt.NDArray[np.bool_]

    @property
    def media_count(self) -> int:
        """How many media the templates have together."""
        return len(np.unique(np.stack([self.templates, self.media]), axis=1).T)


def read_templates(listing: Path, pairs: Path, images: Path | None = None) -> TemplateSet:
    """Read templates and their pairs.

    Args:
        listing: image, template, medium, and perhaps person and score.
        pairs: template, template, label.
        images: the folder that images are named from; the listing's own if None.

    Raises:
        InputError: a file cannot be read, a malformed row, an image that does not exist, a template that is not listed,
            paired with itself or of two people, or a label that contradicts the people.
    """
    table = _rows(listing, "--templates", _IJB)
    folder = images or listing.parent
    names, rows = np.unique(table["image"].to_numpy(dtype=object), return_inverse=True)
    ids, templates = np.unique(table["template"].to_numpy(dtype=object), return_inverse=True)
    _, media = np.unique(table["media"].to_numpy(dtype=object), return_inverse=True)
    files = _found(names.tolist(), folder, listing)
    people = _people(table, templates, len(ids), listing) if "person" in table else None
    weights = _scores(table["score"], listing) if "score" in table else None
    a, b, same = _pairs(pairs, ids.tolist(), people)
    return TemplateSet(pairs.stem, files, rows, templates, media, weights, tuple(ids.tolist()), people, a, b, same)


def _rows(path: Path, option: str, columns: Sequence[str]) -> Any:
    """Return a listing as a table of texts."""
    (table,) = _parts(path, option, columns, None)
    return table


def _parts(path: Path, option: str, columns: Sequence[str], size: int | None, kind: str = "str") -> Iterator[Any]:
    """Yield the rows of a list as tables of texts with these columns, so many rows at a time.

    Raises:
        InputError: the file cannot be read, or a row has too few fields or too many.
    """
    import pandas as pd

    form = f"{' '.join(columns)}, separated by blanks, or a CSV with these headers, as for names that contain blanks"
    options: dict[str, Any] = {"dtype": kind, "na_filter": False, "encoding": "utf-8-sig"}
    try:
        headed, line = _is_csv(path), _first_line(path)
        options |= {"header": 0} if headed else {"header": None, "sep": r"\s+", "quoting": csv.QUOTE_NONE}
        for part in pd.read_csv(path, **options, chunksize=size) if size else [pd.read_csv(path, **options)]:
            extra = part.index.nlevels * (not isinstance(part.index, pd.RangeIndex))  # pandas calls them names of rows
            if extra or (not headed and len(part.columns) != len(columns)):
                fields = len(part.columns) + extra
                raise InputError(f"{shown(path.name)} line {line}: {fields} fields; it should be {form}")
            part.columns = [str(name).strip() for name in part.columns] if headed else list(columns)
            _refuse_gaps(part, path, columns, form, line)
            yield part
            line += len(part)
    except OSError as error:
        raise InputError(f"{option} {shown(path)} cannot be read: {error.strerror or error}") from error
    except InputError:
        raise
    except ValueError as error:  # pandas' own, of rows that are too long and of bytes that are no text
        if long := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", str(error)):
            where = f"{shown(path.name)} line {long[2]}: {long[3]} fields instead of {long[1]}"
            raise InputError(f"{where}; it should be {form}") from error
        raise InputError(f"{option} {shown(path)} is no list of {form} ({clipped(described(error))})") from error


def _first_line(path: Path) -> int:
    """Return the number of the line of the first row."""
    return 2 if _is_csv(path) else 1


def _is_csv(path: Path) -> bool:
    with path.open(encoding="utf-8-sig") as file:
        return "," in file.readline(10_000)


def _refuse_gaps(part: Any, path: Path, columns: Sequence[str], form: str, line: int) -> None:
    """Refuse rows without a column, or with an empty field."""
    if missing := [name for name in columns if name not in part.columns]:
        raise InputError(f"{shown(path.name)} has no column '{missing[0]}'; it should be {form}")
    if not len(part):
        raise InputError(f"{shown(path.name)} has no row; it should be {form}")
    for name in columns:
        if len(empty := np.flatnonzero((part[name].isna() | (part[name] == "")).to_numpy())):
            raise InputError(f"{shown(path.name)} line {line + int(empty[0])}: no {name}; it should be {form}")


def _found(names: Sequence[str], folder: Path, listing: Path) -> tuple[Path, ...]:
    """Return the images' files."""
    files = [folder / refuse_traversal(name, shown(listing.name)) for name in names]
    missing = [name for name, file in zip(names, files, strict=True) if not is_file(file)]
    if missing:
        raise InputError(
            f"{shown(listing.name)}: no image '{clipped(missing[0])}' in {shown(folder)} ({len(missing):,} of "
            f"{len(files):,} are missing); name the folder of the images with --template-images"
        )
    return tuple(files)


def _people(table: Any, templates: Integers, count: int, listing: Path) -> tuple[str, ...]:
    """Return who is on each template."""
    names = table["person"].to_numpy(dtype=object)
    first = np.full(count, -1, dtype=np.int64)
    first[templates[::-1]] = np.arange(len(templates))[::-1]
    people = names[first]
    if len(wrong := np.flatnonzero(people[templates] != names)):
        line, template = int(wrong[0]) + _first_line(listing), table["template"].iloc[int(wrong[0])]
        raise InputError(
            f"{shown(listing.name)} line {line}: template {clipped(template)} is of {clipped(names[wrong[0]])} and of "
            f"{clipped(people[templates[wrong[0]]])}; a template shows one person"
        )
    return tuple(people.tolist())


def _scores(column: Any, listing: Path) -> npt.NDArray[np.float64]:
    try:
        found: npt.NDArray[np.float64] = column.to_numpy(dtype=np.float64)
    except ValueError as error:
        raise InputError(f"{shown(listing.name)}: a score is no number ({clipped(str(error))}); fix the row") from error
    if not bool((np.isfinite(found) & (found > 0)).all()):
        line = int(np.flatnonzero(~(np.isfinite(found) & (found > 0)))[0]) + _first_line(listing)
        raise InputError(f"{shown(listing.name)} line {line}: a score must be a number above 0; fix the row")
    return found


def _pairs(
    path: Path, ids: Sequence[str], people: Sequence[str] | None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Return the pairs of a list: the templates of each, and whether they show one person."""
    position = {name: i for i, name in enumerate(ids)}
    person = None if people is None else np.unique(np.asarray(people, dtype=object), return_inverse=True)[1]
    found: list[tuple[Any, Any, Any]] = []
    line = 0
    for part in _parts(path, "--template-pairs", _PAIRED, _CHUNK, "category"):
        line = line or _first_line(path)
        a, b = (_codes(part[name], position) for name in _PAIRED[:2])
        label = _codes(part["label"], {"0": 0, "1": 1})
        same = label == 1
        _refuse(path, line, part, a < 0, "template1", "is not among the templates; fix the row")
        _refuse(path, line, part, b < 0, "template2", "is not among the templates; fix the row")
        _refuse(path, line, part, label < 0, "label", "should be 1 for one person or 0 for two")
        _refuse(path, line, part, a == b, "template2", "is paired with itself, which any model gets right; fix the row")
        if person is not None:
            wrong = (person[a] == person[b]) != same
            _refuse(path, line, part, wrong, "label", "contradicts the people of the two templates; fix the row")
        found.append((a, b, same))
        line += len(part)
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    if not columns[2].any() or columns[2].all():
        raise InputError(
            f"--template-pairs {shown(path)} needs pairs of one person and pairs of two; only one kind is there"
        )
    return columns[0], columns[1], columns[2]


def _codes(column: Any, position: dict[str, int]) -> npt.NDArray[np.int32]:
    """Return the position of each text of a categorical column [P], -1 where it has none."""
    own = np.asarray([position.get(str(text), -1) for text in column.cat.categories], dtype=np.int32)
    codes: npt.NDArray[np.int32] = own[column.cat.codes.to_numpy()]
    return codes


def _refuse(path: Path, line: int, part: Any, wrong: npt.NDArray[np.bool_], column: str, why: str) -> None:
    if len(rows := np.flatnonzero(wrong)):
        text = part[column].iloc[int(rows[0])]
        raise InputError(f"{shown(path.name)} line {line + int(rows[0])}: {column} '{clipped(str(text))}' {why}")
