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


_OFFICIAL = {IMAGES: "Img", IDENTITIES: "Anno", LANDMARKS: "Anno", PARTITIONS: "Eval"}


def read_celeba(root: Path) -> Collection:
    """Read CelebA, flat as torchvision lays it out, or in Img/, Anno/ and Eval/ as the official download does.

    Images that are listed but absent, or have no landmarks, are left out and counted.

    Raises:
        InputError: a list or the image folder is missing, a row is malformed, the landmark file has more or fewer rows
            than it announces, or there is no image.
    """
    images, identities, marks, parts = (_find(root, name) for name in (IMAGES, IDENTITIES, LANDMARKS, PARTITIONS))
    people = _read_pairs(identities, "FILE IDENTITY", lambda value: value.isdigit())
    partitions = _read_pairs(parts, "FILE PARTITION (0, 1 or 2)", lambda value: value in ("0", "1", "2"))
    landmarks = _read_landmarks(marks)
    try:
        present = {entry.name for entry in images.iterdir()}
    except OSError as error:
        raise InputError(f"--root: {shown(images)} cannot be read: {error.strerror}") from error
    absent = tuple(name for name in people if name not in present)
    unmarked = sorted(name for name in people if name in present and name not in landmarks)
    photos = [
        Photo(images / name, f"{int(person):05d}", landmarks[name], {"partition": partitions.get(name, "-")})
        for name, person in people.items()
        if name in present and name in landmarks
    ]
    if not photos:
        raise InputError(f"--root: none of the {len(people):,} listed images is in {shown(images)}; unpack them there")
    notes = []
    if absent:
        notes.append(f"{len(absent):,} of {len(people):,} listed images are absent: {some(absent)}")
    if unmarked:
        notes.append(f"{len(unmarked):,} images have no landmarks and are left out: {some(unmarked)}")
    if unlisted := sorted(present - set(people)):
        notes.append(f"{len(unlisted):,} files in {IMAGES} are in no list and are left out: {some(unlisted)}")
    photos.sort(key=lambda photo: (photo.person, photo.path.name))
    return Collection("celeba", root, tuple(photos), absent=absent, notes=tuple(notes))


def _find(root: Path, name: str) -> Path:
    """Return where an image folder or a list lies: flat, or in the folders of the official download."""
    for place in (root / name, root / _OFFICIAL[name] / name):
        if is_folder(place / name):  # some programs unpack an archive into a folder of its own name
            return place / name
        if is_file(place) or is_folder(place):
            return place
    for archive in (root / f"{name}.zip", root / _OFFICIAL[name] / f"{name}.zip"):
        if is_file(archive):
            raise InputError(f"--root: {shown(archive)} is still packed; unpack it beside itself")
    raise InputError(
        f"--root: {shown(root / name)} is missing, and {shown(root / _OFFICIAL[name] / name)} too; CelebA's layout "
        "needs it (--download gets everything)"
    )


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
