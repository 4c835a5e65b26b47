"""A tree on disk: ROOT/{train,val,test,query,distractors}/PERSON/IMAGE. The folders are the split."""

from pathlib import Path

from lossbench.data.faces import FaceSet, Part, Split
from lossbench.errors import InputError, did_you_mean
from lossbench.utils.text import check_name, shown

PARTS = ("train", "val", "test", "query", "distractors")
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm", ".tif", ".tiff"}
AT_LEAST = {"train": 2, "val": 1, "test": 1, "query": 2, "distractors": 1}  # images of one person


def read_tree(root: str | Path) -> FaceSet:
    """Read the split that a tree of folders is.

    Raises:
        InputError: no such folder, a part missing or empty, a person with too few images, somebody of val or test who
            is not in train, or somebody of train who is also in query or distractors.
    """
    root = Path(root)
    if not root.is_dir():
        raise InputError(f"no data called '{root}'{did_you_mean(str(root), ['orl'])}; --data takes 'orl' or a folder")
    rows: dict[Path, int] = {}
    found = {part: _people(root, part) for part in PARTS}
    closed = tuple(sorted(found["train"]))
    parts: dict[str, Part] = {}
    for name, people in found.items():
        names = closed if name in PARTS[:3] else tuple(sorted(people))
        if strangers := sorted(set(people) - set(names)):
            raise InputError(f"{root / name / strangers[0]}: a person who is not in train; move the folder to query")
        pairs = [(file, label) for label, person in enumerate(names) for file in people.get(person, ())]
        parts[name] = Part(
            tuple(rows.setdefault(file, len(rows)) for file, _ in pairs), tuple(label for _, label in pairs), names
        )
    _refuse_overlap(root, found)
    files = tuple(rows)
    return FaceSet(root.resolve().name, files, tuple(f.relative_to(root).as_posix() for f in files), (Split(**parts),))


def entries(folder: Path) -> list[Path]:
    """Return what is in a folder by name, hidden entries left out.

    Raises:
        InputError: the folder cannot be read, or an entry's name fits no text file, or it is a link to nowhere.
    """
    try:
        found = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(f"{shown(folder)} cannot be read ({error.strerror}); mend or remove it") from error
    for entry in found:
        check_name(entry)
    return found


def _people(root: Path, part: str) -> dict[str, list[Path]]:
    folder = root / part
    if not folder.is_dir():
        raise InputError(
            f"no folder {folder}; a data tree holds {', '.join(f'{p}/' for p in PARTS)}, a folder a person"
        )
    people = {}
    for person in entries(folder):
        if not person.is_dir():
            continue
        images = [file for file in entries(person) if is_image(file)]
        if len(images) < AT_LEAST[part]:
            raise InputError(
                f"{person} holds {len(images)} image{'s' * (len(images) != 1)}; a person in {part} needs at least "
                f"{AT_LEAST[part]}: add images or remove the folder"
            )
        people[person.name] = images
    if not people:
        raise InputError(f"{folder} is empty; it needs a folder per person with images in it")
    return people


def is_image(file: Path) -> bool:
    """Return whether a path is that of an image, by its suffix; hidden files are none."""
    return file.suffix.lower() in SUFFIXES and not file.name.startswith(".") and file.is_file()


def _refuse_overlap(root: Path, found: dict[str, dict[str, list[Path]]]) -> None:
    for first, second in (("train", "query"), ("train", "distractors"), ("query", "distractors")):
        if both := sorted(set(found[first]) & set(found[second])):
            raise InputError(f"person '{both[0]}' is in both {root / first} and {root / second}; keep one of them")
