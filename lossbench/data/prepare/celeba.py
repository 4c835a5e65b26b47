"""The official CelebA layout (Liu et al. 2015, "Deep learning face attributes in the wild"): images and three lists."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from lossbench.data.prepare.collection import Collection, Landmarks, Photo, ten_numbers
from lossbench.errors import InputError
from lossbench.utils.files import is_file, is_folder, refuse_traversal
from lossbench.utils.text import clipped, first_line, shown, some

IMAGES = "img_align_celeba"
IDENTITIES = "identity_CelebA.txt"
LANDMARKS = "list_landmarks_align_celeba.txt"
PARTITIONS = "list_eval_partition.txt"


def read_celeba(root: Path) -> Collection:
    """Read CelebA. Images that are listed but absent, or have no landmarks, are left out and counted.

    Raises:
        InputError: a list or the image folder is missing, a row is malformed, the landmark file has more or fewer rows
            than it announces, or there is no image.
    """
    for name in (IMAGES, IDENTITIES, LANDMARKS, PARTITIONS):
        if not (is_file(root / name) or is_folder(root / name)):
            raise InputError(
                f"--root: {shown(root / name)} is missing; CelebA's layout needs it (--download gets everything)"
            )
    people = _read_pairs(root / IDENTITIES, "FILE IDENTITY", lambda value: value.isdigit())
    partitions = _read_pairs(root / PARTITIONS, "FILE PARTITION (0, 1 or 2)", lambda value: value in ("0", "1", "2"))
    landmarks = _read_landmarks(root / LANDMARKS)
    try:
        present = {entry.name for entry in (root / IMAGES).iterdir()}
    except OSError as error:
        raise InputError(f"--root: {shown(root / IMAGES)} cannot be read: {error.strerror}") from error
    absent = tuple(name for name in people if name not in present)
    unmarked = sorted(name for name in people if name in present and name not in landmarks)
    photos = [
        Photo(root / IMAGES / name, f"{int(person):05d}", landmarks[name], {"partition": partitions.get(name, "-")})
        for name, person in people.items()
        if name in present and name in landmarks
    ]
    if not photos:
        raise InputError(
            f"--root: none of the {len(people):,} listed images is in {shown(root / IMAGES)}; unpack them there"
        )
    notes = []
    if absent:
        notes.append(f"{len(absent):,} of {len(people):,} listed images are absent: {some(absent)}")
    if unmarked:
        notes.append(f"{len(unmarked):,} images have no landmarks and are left out: {some(unmarked)}")
    if unlisted := sorted(present - set(people)):
        notes.append(f"{len(unlisted):,} files in {IMAGES} are in no list and are left out: {some(unlisted)}")
    photos.sort(key=lambda photo: (photo.person, photo.path.name))
    return Collection("celeba", root, tuple(photos), absent=absent, notes=tuple(notes))


def download_celeba(root: Path) -> Path:
    """Download CelebA with torchvision into `root`/celeba and return that folder.

    Raises:
        InputError: torchvision cannot be imported, or the files cannot be downloaded.
    """
    try:
        from torchvision.datasets import CelebA
    except (ImportError, RuntimeError) as error:
        raise InputError(f"--download needs torchvision, which cannot be imported: {first_line(error)}") from error
    try:
        root.mkdir(parents=True, exist_ok=True)
        CelebA(str(root), split="all", target_type=["identity", "landmarks"], download=True)
    except (OSError, RuntimeError, ImportError) as error:  # no network, a quota, no gdown, an incomplete archive
        for made in (root / "celeba", root):  # leave no empty folders behind
            with suppress(OSError):
                made.rmdir()
        raise InputError(
            f"--download: CelebA cannot be downloaded ({first_line(error)}); download it from its home page "
            f"and unpack it to {root}"
        ) from error
    return root / "celeba"


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the words of every line that is not blank."""
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if words := line.split():
                    yield number, words
    except OSError as error:
        raise InputError(f"{shown(path)} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{shown(path)} is not text: {error.reason} at byte {error.start}") from error


def _read_pairs(path: Path, form: str, valid: Callable[[str], bool]) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, words in _lines(path):
        where = f"{path.name} line {number}"
        if len(words) != 2 or not valid(words[1]):
            raise InputError(f"{where}: '{clipped(' '.join(words))}' should be {form}; fix the row")
        name = _file_name(words[0], where)
        if name in found:
            raise InputError(f"{where}: '{clipped(name)}' occurs twice; keep one row")
        found[name] = words[1]
    return found


def _read_landmarks(path: Path) -> dict[str, Landmarks]:
    rows = _lines(path)
    _, count = next(rows, (0, [""]))
    if len(count) != 1 or not count[0].isdigit():
        raise InputError(f"{path.name} line 1: '{clipped(' '.join(count))}' should be the number of rows")
    _, header = next(rows, (0, []))
    if len(header) != 10:
        raise InputError(f"{path.name} line 2 should name ten columns, lefteye_x to rightmouth_y; it has {len(header)}")
    found: dict[str, Landmarks] = {}
    for number, words in rows:
        where = f"{path.name} line {number}"
        name = _file_name(words[0], where)
        if name in found:
            raise InputError(f"{where}: '{clipped(name)}' occurs twice; keep one row")
        found[name] = ten_numbers(words[1:], where)
    if len(found) != int(count[0]):
        raise InputError(
            f"{path.name} line 1 announces {count[0]} rows and {len(found)} follow; the file is incomplete or damaged"
        )
    return found


def _file_name(name: str, where: str) -> str:
    if "/" in name or "\\" in name:
        raise InputError(f"{where}: '{clipped(name)}' should be a file name without folders")
    return refuse_traversal(name, where)
