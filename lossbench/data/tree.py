"""A tree on disk: ROOT/{train,val,test,query,distractors}/PERSON/IMAGE. The folders are the split."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lossbench.data.faces import FaceSet, Part, Split
from lossbench.data.set_files import is_prepared
from lossbench.errors import InputError
from lossbench.utils.files import check_name, is_file, is_folder, listed
from lossbench.utils.text import shown

if TYPE_CHECKING:
    from lossbench.data.images.recordio import ImagePlace

CLOSED = ("train", "val", "test")  # other images of the same people
OPEN = ("query", "distractors")  # people not seen in training
PARTS = (*CLOSED, *OPEN)
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff"}
AT_LEAST = {"train": 2, "val": 1, "test": 1, "query": 2, "distractors": 1}  # images of one person


def read_tree(root: str | Path) -> FaceSet:
    """Read the split that a tree of folders is.

    Raises:
        InputError: no such folder, a part missing or empty, a person with too few images, a person of val or test
            who is not in train, or one of train who is also in query or distractors.
    """
    root = Path(root)
    if not is_folder(root):
        raise InputError(f"no folder '{shown(root)}'; a data tree holds {', '.join(f'{p}/' for p in PARTS)}")
    rows: dict[Path, int] = {}
    if missing := [part for part in PARTS if not is_folder(root / part)]:
        raise InputError(
            f"{shown(root)} has no folder {' and no '.join(f'{part}/' for part in missing)}; a data tree holds "
            f"{', '.join(f'{part}/' for part in PARTS)}, each with one folder per person"
        )
    found = {part: _people(root, part) for part in PARTS}
    if wrong := misfit({part: {who: len(files) for who, files in people.items()} for part, people in found.items()}):
        raise InputError(f"{shown(root / wrong.place)} {wrong.rule}: {wrong.cure}")
    closed = tuple(sorted(found["train"]))
    parts: dict[str, Part] = {}
    for name, people in found.items():
        names = closed if name in CLOSED else tuple(sorted(people))
        pairs = [(file, label) for label, person in enumerate(names) for file in people.get(person, ())]
        parts[name] = Part(
            tuple(rows.setdefault(file, len(rows)) for file, _ in pairs), tuple(label for _, label in pairs), names
        )
    files = tuple(rows)
    return FaceSet(root.resolve().name, files, tuple(f.relative_to(root).as_posix() for f in files), (Split(**parts),))


def entries(folder: Path) -> list[Path]:
    """Return what `listed` does, with every name checked.

    Raises:
        InputError: the folder cannot be read, or `check_name` refuses an entry.
    """
    found = listed(folder)
    for entry in found:
        check_name(entry)
    return found


def people_in(folder: Path, listing: Callable[[Path], list[Path]] = entries) -> Iterator[tuple[Path, list[Path]]]:
    """Yield every person's folder and its images, sorted by name; a person may have none.

    Args:
        folder: holds one folder per person.
        listing: `entries`, or `listed` to accept any name.

    Raises:
        InputError: as `listing`.
    """
    for person in listing(folder):
        if is_folder(person):
            yield person, [file for file in listing(person) if is_image(file)]


def _people(root: Path, part: str) -> dict[str, list[Path]]:
    folder = root / part
    people = {person.name: images for person, images in people_in(folder)}
    if not people:
        raise InputError(f"{folder} is empty; it needs a folder per person with images in it")
    return people


def has_image_suffix(file: Path) -> bool:
    """Return whether a path is named like an image."""
    return file.suffix.lower() in SUFFIXES


def is_image(file: Path) -> bool:
    """Return whether a path is a file that is named like an image and not hidden."""
    return has_image_suffix(file) and not file.name.startswith(".") and is_file(file)


class Misfit(NamedTuple):
    """A rule that a split breaks: where (``PART/PERSON``), the rule, and the cure in a tree of folders."""

    place: str
    rule: str
    cure: str


def misfit(images: Mapping[str, Mapping[str, int]]) -> Misfit | None:
    """Return the first rule that the people of a split break, or None.

    Args:
        images: the number of images of every person in each of `PARTS`.
    """
    for part, people in images.items():
        for person, count in people.items():
            if count < AT_LEAST[part]:
                holds = f"holds {count} image{'s' * (count != 1)}; a person in {part} needs at least {AT_LEAST[part]}"
                return Misfit(f"{part}/{person}", holds, "add images or remove the folder")
    for part in CLOSED:
        if unknown := sorted(set(images[part]) - set(images["train"])):
            return Misfit(f"{part}/{unknown[0]}", "is a person who is not in train", "move the folder to query")
    for first, second in (("train", "query"), ("train", "distractors"), ("query", "distractors")):
        if both := sorted(set(images[first]) & set(images[second])):
            return Misfit(f"{second}/{both[0]}", f"is a person who is also in {first}", "remove one of the two folders")
    return None


@dataclass(frozen=True)
class UnseenPeople:
    """Query people, and distractors where there are any; `names[i]` is ``person/file`` or ``query/person/file``."""

    name: str
    files: "Sequence[ImagePlace]"
    names: tuple[str, ...]
    query: Part
    distractors: Part


def read_unseen_people(root: str | Path) -> UnseenPeople:
    """Read query/ and distractors/ of a data tree, or a folder per person, all of which are query people.

    A person may have a single image; it is then compared with the images of all others.

    Raises:
        InputError: no such folder, fewer than two people in it, or a person is in query and in distractors.
    """
    root = Path(root)
    if not is_folder(root):
        raise InputError(f"no folder '{root}'; --data takes a data tree or a folder per person")
    tree = is_folder(root / "query")
    query = _with_images(root / "query" if tree else root)
    others = _with_images(root / "distractors") if tree and is_folder(root / "distractors") else {}
    if both := sorted(set(query) & set(others)):
        raise InputError(f"person '{both[0]}' is in both {root / 'query'} and {root / 'distractors'}; keep one of them")
    if len(query) < 2:
        people = "1 person" if query else "0 people"
        raise InputError(f"{root} holds {people} with images; --data takes DIR/PERSON/FILE of two people or more")
    files = [file for people in (query, others) for images in people.values() for file in images]
    names = tuple(file.relative_to(root).as_posix() for file in files)
    first = sum(map(len, query.values()))
    return UnseenPeople(root.resolve().name, tuple(files), names, _part(query, 0), _part(others, first))


def read_images(root: str | Path) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Return every image below a folder, sorted, and its relative path; hidden files and links to folders are skipped.

    What stands beside the folders of a set that lossbench prepared is its own, such as doubtful.jpg, and no face.

    Raises:
        InputError: no such folder, or no image in it.
    """
    root = Path(root)
    if not is_folder(root):
        raise InputError(f"no folder '{root}'; embed takes a folder with images in it")
    prepared = is_prepared(root)
    files: list[Path] = []
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        found = entries(folder)
        files += [entry for entry in found if is_image(entry) and not (prepared and folder == root)]
        waiting += [entry for entry in found if is_folder(entry) and not entry.is_symlink()]
    if not files:
        raise InputError(f"no image below '{root}'; embed takes .jpg, .png and other image files")
    files.sort()
    return tuple(files), tuple(file.relative_to(root).as_posix() for file in files)


def _with_images(folder: Path) -> dict[str, list[Path]]:
    return {person.name: images for person, images in people_in(folder) if images}


def _part(people: dict[str, list[Path]], first: int) -> Part:
    labels = tuple(label for label, images in enumerate(people.values()) for _ in images)
    return Part(tuple(range(first, first + len(labels))), labels, tuple(people))
