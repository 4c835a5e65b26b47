"""Verification pairs: two images each, of one person or of two, in folds. Read from LFW's format or CSV, or drawn."""

import hashlib
import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from lossbench.data.tree import CLOSED, OPEN, entries, has_image_suffix
from lossbench.errors import InputError
from lossbench.utils.files import is_file, is_folder, refuse_traversal
from lossbench.utils.text import clipped, shown

FOLDS = 10
PER_FOLD = 300  # LFW's: 300 pairs of one person and 300 of two in each fold


@dataclass(frozen=True)
class PairSet:
    """P pairs over the images `files`: positions of the two, whether they show one person, and the fold.

    `notes` are worth knowing about them, one line each.
    """

    files: tuple[Path, ...]
    a: tuple[int, ...]
    b: tuple[int, ...]
    same: tuple[bool, ...]
    folds: tuple[int, ...]
    fingerprint: str
    notes: tuple[str, ...] = ()


def read_pairs(path: Path, tree: Path | None) -> PairSet:
    """Read verification pairs: LFW's pairs.txt, or a folder or CSV that `lossbench data prepare bin` made.

    LFW's format: a first line with the number of folds and of pairs of each kind per fold (or with the latter alone);
    then `NAME N M` for one person and `NAME N OTHER M` for two, where N is a number (NAME/NAME_000N.jpg, LFW's naming)
    or a file name in NAME's folder, with its suffix or without. Fields are separated by tabs or blanks. A file without
    folds (LFW's pairsDevTest.txt) is dealt out over ten folds in its order, each kind by itself. Repeated pairs count
    each time, and a note says how many there are.

    Folders of people are searched for in the data's query/ and distractors/, then beside the pairs file.

    Raises:
        InputError: no such file, a malformed row, an image that does not exist or is paired with itself, or a person
            of the training data.
    """
    try:
        if is_folder(path) and not is_file(path / "pairs.csv"):
            raise InputError(f"--pairs {shown(path)} is a folder without pairs.csv; give the pairs.txt of a tree")
        path = path / "pairs.csv" if is_folder(path) else path
        if path.suffix == ".bin":
            cure = f"lossbench data prepare bin --file {shown(path)} --out DIR"
            raise InputError(f"--pairs {shown(path)} is not prepared; first: {cure}")
        if path.exists() and not is_file(path):
            raise InputError(f"--pairs {shown(path)} is not a file; give a pairs.txt or what data prepare bin made")
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"--pairs {shown(path)} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"--pairs {shown(path)} is not text in UTF-8 ({error.reason}); give a pairs.txt") from error
    rows = _csv_rows(path, text) if path.suffix == ".csv" else _lfw_rows(path, text, _Finder(path.parent, tree))
    if not any(same for _, _, same, _ in rows) or all(same for _, _, same, _ in rows):
        raise InputError(f"--pairs {shown(path)} needs pairs of one person and pairs of two; only one kind is there")
    times = Counter(frozenset(row[:2]) for row in rows)
    again = sum(times.values()) - len(times)
    notes = (f"{shown(path.name)}: {again:,} of {len(rows):,} pairs repeat another; each counts",) if again else ()
    position: dict[Path, int] = {}
    a = tuple(position.setdefault(first, len(position)) for first, _, _, _ in rows)
    b = tuple(position.setdefault(second, len(position)) for _, second, _, _ in rows)
    same, folds = tuple(row[2] for row in rows), tuple(row[3] for row in rows)
    digest = hashlib.sha256(repr((a, b, same, folds)).encode()).hexdigest()  # the store's covers the images, in order
    return PairSet(tuple(position), a, b, same, folds, digest, notes)


_Row = tuple[Path, Path, bool, int]


def _csv_rows(path: Path, text: str) -> list[_Row]:
    rows = [line.split(",") for line in text.removesuffix("\n").split("\n")]  # no name that we write needs quotes
    if rows[0] != ["a", "b", "same"]:
        raise InputError(f"--pairs {shown(path)} line 1 should be a,b,same; prepare the .bin again")
    count = len(rows) - 1
    found = []
    for i, cells in enumerate(rows[1:]):
        where = f"{shown(path.name)} line {i + 2}"
        if len(cells) != 3 or cells[2] not in ("0", "1"):
            raise InputError(f"{where}: '{clipped(','.join(cells))}' should be PATH,PATH,0 or 1")
        a, b = (path.parent / refuse_traversal(cell, where) for cell in cells[:2])
        for file in (a, b):
            if not is_file(file):
                raise InputError(f"{where}: {clipped(str(file))} does not exist; prepare the .bin again")
        _refuse_itself(a, b, where)
        found.append((a, b, cells[2] == "1", i * FOLDS // count))
    return found


def _refuse_itself(a: Path, b: Path, where: str) -> None:
    if a == b:
        raise InputError(f"{where}: pairs '{clipped(a.name)}' with itself, which any model gets right; fix the row")


def _lfw_rows(path: Path, text: str, finder: "_Finder") -> list[_Row]:
    lines = [(n, line.split("\t") if "\t" in line else line.split()) for n, line in enumerate(text.split("\n"), 1)]
    lines = [(n, words) for n, words in lines if any(word.strip() for word in words)]
    head = [word.strip() for word in lines[0][1]] if lines else []
    if len(head) not in (1, 2) or not all(
        word.isascii() and word.isdigit() and len(word) < 10 and int(word) > 0 for word in head
    ):
        raise InputError(
            f"{shown(path.name)} line 1: '{clipped(' '.join(head))}' should be the number of folds and of pairs of "
            "each kind per fold, as in '10 300'"
        )
    expected = 2 * int(head[-1]) * (int(head[0]) if len(head) == 2 else 1)
    if len(lines) - 1 != expected:
        raise InputError(
            f"{shown(path.name)} line 1 announces {expected} pairs and {len(lines) - 1} follow; the file is incomplete "
            "or damaged"
        )
    folds = int(head[0]) if len(head) == 2 else 1
    found = []
    for i, (number, words) in enumerate(lines[1:]):
        where = f"{shown(path.name)} line {number}"
        if len(words) == 3:
            a, b = finder.find(words[0], words[1], where), finder.find(words[0], words[2], where)
        elif len(words) == 4:
            a, b = finder.find(words[0], words[1], where), finder.find(words[2], words[3], where)
            if a.parent == b.parent:
                raise InputError(f"{where}: '{clipped(words[0])}' twice is no pair of two people; write NAME N M")
        else:
            raise InputError(f"{where}: '{clipped(' '.join(words))}' should be NAME N M or NAME N OTHER M")
        _refuse_itself(a, b, where)
        found.append((a, b, len(words) == 3, i * folds // expected))
    return found if folds > 1 else _dealt_out(found)


def _dealt_out(rows: Sequence[_Row]) -> list[_Row]:
    """Return the rows in ten folds, each with pairs of both kinds."""
    count = Counter(same for _, _, same, _ in rows)
    seen: Counter[bool] = Counter()
    found = []
    for a, b, same, _ in rows:
        found.append((a, b, same, seen[same] * FOLDS // count[same]))
        seen[same] += 1
    return found


class _Finder:
    """Finds the images that a pairs file names; each person's folder is listed once."""

    def __init__(self, beside: Path, tree: Path | None):
        self.roots = [*([*(tree / part for part in OPEN), tree] if tree else []), beside]
        self.trained = [tree / part for part in CLOSED] if tree else []
        self.people: dict[str, dict[str, list[Path]]] = {}

    def find(self, person: str, image: str, where: str) -> Path:
        if person not in self.people:
            self.people[person] = self._images(person, where)
        images = self.people[person]
        stripped = image.strip()
        names = [image, stripped]
        if stripped.isascii() and stripped.isdigit() and len(stripped) < 10:
            names.append(f"{person.strip()}_{int(stripped):04d}")
        found = next((images[name] for name in names if name in images), [])
        if len(found) > 1:
            both = " or ".join(clipped(file.name) for file in found[:2])
            raise InputError(f"{where}: '{clipped(image)}' of '{clipped(person)}' may be {both}; write the suffix")
        if not found:
            count = len({file for files in images.values() for file in files})
            raise InputError(
                f"{where}: no image '{clipped(image)}' of '{clipped(person)}' among the {count} there; fix the row"
            )
        return found[0]

    def _images(self, person: str, where: str) -> dict[str, list[Path]]:
        """Return the images of a person by their names with suffix and without; a name may end in a blank."""
        if not person or "/" in person or "\\" in person:
            raise InputError(f"{where}: '{clipped(person)}' should be a person's folder name, without any path")
        refuse_traversal(person, where)
        for name in dict.fromkeys((person, person.strip())):
            for root in self.roots if name else []:
                if is_folder(root / name):
                    return _by_name(filter(has_image_suffix, entries(root / name)))
        if any(is_folder(root / name) for root in self.trained for name in (person, person.strip())):
            raise InputError(
                f"{where}: '{clipped(person)}' is a training person; pairs must be of people not seen in training"
            )
        places = ", ".join(shown(root) for root in self.roots)
        raise InputError(f"{where}: no person called '{clipped(person)}' in {places}; add the folder or fix the row")


def _by_name(files: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for file in files:
        found.setdefault(file.stem, []).append(file)
    return {file.name: [file] for files in found.values() for file in files} | found


def draw_pairs(people: Mapping[str, Sequence[str]], seed: int) -> str | None:
    """Return a pairs.txt in LFW's format drawn from images of people: 10 folds, up to 300 pairs of each kind in each.

    From 20 people on, no person is in two folds, so that each threshold is tested on unseen people.

    Args:
        people: file names by person.
        seed: of the draw.

    Returns:
        The text, or None if there are too few images for one pair of each kind per fold.
    """
    rng = random.Random(f"{seed} pairs")
    names = sorted(people)
    rng.shuffle(names)
    groups = [names[i::FOLDS] for i in range(FOLDS)] if len(names) >= 2 * FOLDS else [names]
    folds_each = FOLDS // len(groups)
    same = [[(p, *pair) for p in group for pair in combinations(sorted(people[p]), 2)] for group in groups]
    images = [[(p, file) for p in group for file in sorted(people[p])] for group in groups]
    other = [len(i) * (len(i) - 1) // 2 - len(s) for i, s in zip(images, same, strict=True)]
    count = min(PER_FOLD, *(min(len(s), o) // folds_each for s, o in zip(same, other, strict=True)))
    if count == 0:
        return None
    lines = [f"{FOLDS}\t{count}"]
    for own, pool in zip(same, images, strict=True):
        alike = rng.sample(own, count * folds_each)
        unlike = _unlike(pool, count * folds_each, rng)
        for fold in range(folds_each):
            part = slice(fold * count, (fold + 1) * count)
            lines += [f"{p}\t{Path(a).stem}\t{Path(b).stem}" for p, a, b in alike[part]]
            lines += [f"{p}\t{Path(a).stem}\t{q}\t{Path(b).stem}" for (p, a), (q, b) in unlike[part]]
    return "\n".join(lines) + "\n"


def _unlike(
    images: Sequence[tuple[str, str]], count: int, rng: random.Random
) -> list[tuple[tuple[str, str], tuple[str, str]]]:
    """Draw `count` different pairs of images of two people."""
    if len(images) < 200:
        return rng.sample([(a, b) for a, b in combinations(images, 2) if a[0] != b[0]], count)
    found: dict[tuple[tuple[str, str], tuple[str, str]], None] = {}
    while len(found) < count:
        a, b = sorted(rng.sample(images, 2))
        if a[0] != b[0]:
            found[a, b] = None
    return list(found)
