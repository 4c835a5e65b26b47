"""Faces for a model that is trained already: any folder of people, or the open set of a data tree."""

from dataclasses import dataclass
from pathlib import Path

from lossbench.data.faces import Part
from lossbench.data.folders import entries, is_image
from lossbench.errors import InputError


@dataclass(frozen=True)
class Strangers:
    """Query people, and distractors where there are any; `names[i]` is ``person/file`` or ``query/person/file``."""

    name: str
    files: tuple[Path, ...]
    names: tuple[str, ...]
    query: Part
    distractors: Part


def read_strangers(root: str | Path) -> Strangers:
    """Read query/ and distractors/ of a data tree, or a folder that holds a folder per person: these are the query.

    A person may have a single image: it is then compared with everybody else's.

    Raises:
        InputError: no such folder, no people in it, or somebody who is in query and in distractors.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"no folder '{root}'; --data takes a data tree or a folder per person")
    tree = (root / "query").is_dir()
    query = _people(root / "query" if tree else root)
    others = _people(root / "distractors") if tree and (root / "distractors").is_dir() else {}
    if both := sorted(set(query) & set(others)):
        raise InputError(f"person '{both[0]}' is in both {root / 'query'} and {root / 'distractors'}; keep one of them")
    if len(query) < 2:
        people = "1 person" if query else "0 people"
        raise InputError(f"{root} holds {people} with images; --data takes DIR/PERSON/FILE of two people or more")
    files = [file for people in (query, others) for images in people.values() for file in images]
    names = tuple(file.relative_to(root).as_posix() for file in files)
    first = sum(map(len, query.values()))
    return Strangers(root.resolve().name, tuple(files), names, _part(query, 0), _part(others, first))


def read_images(root: str | Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Return every image below a folder, sorted, and its path from there; hidden ones and links to folders left out.

    Raises:
        InputError: no such folder, or no image in it.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"no folder '{root}'; embed takes a folder with images in it")
    files: list[Path] = []
    waiting = [root]
    while waiting:
        found = entries(waiting.pop())
        files += [entry for entry in found if is_image(entry)]
        waiting += [entry for entry in found if entry.is_dir() and not entry.is_symlink()]
    if not files:
        raise InputError(f"no image below '{root}'; embed takes .jpg, .png and the like")
    files.sort()
    return tuple(files), tuple(file.relative_to(root).as_posix() for file in files)


def _people(folder: Path) -> dict[str, list[Path]]:
    images = {person.name: [f for f in entries(person) if is_image(f)] for person in entries(folder) if person.is_dir()}
    return {person: files for person, files in images.items() if files}


def _part(people: dict[str, list[Path]], first: int) -> Part:
    labels = tuple(label for label, images in enumerate(people.values()) for _ in images)
    return Part(tuple(range(first, first + len(labels))), labels, tuple(people))
