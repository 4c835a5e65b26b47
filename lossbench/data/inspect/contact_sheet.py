"""A contact sheet: one row for each of some people of every part, to see at a glance what a network sees."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from lossbench.data.images.decode import decode, read_bytes
from lossbench.data.images.recordio import ImagePlace
from lossbench.data.packed import open_packed
from lossbench.data.set_files import is_packed
from lossbench.data.tree import PARTS, people_in
from lossbench.errors import InputError
from lossbench.utils.files import is_folder, listed, write_bytes
from lossbench.utils.lettering import drawable, lettering
from lossbench.utils.text import shown

_TEXT, _HIGH = 16, 11  # pixels kept for a line of text, and its size


def contact_sheet(root: Path, *, people: int = 4, images: int = 10, side: int = 112) -> Image.Image:
    """Return a sheet of `people` rows of up to `images` faces for every part, chosen by a hash of their names.

    Args:
        root: a prepared tree.
        people: rows per part.
        images: faces per row.
        side: pixels per side of a face.

    Raises:
        InputError: the folder has no part of a tree, or an image cannot be read.
    """
    rows = [(part, person, files) for part in PARTS for person, files in _some_people(root, part, people, images)]
    if not rows:
        raise InputError(f"{shown(root)} holds none of {', '.join(f'{part}/' for part in PARTS)} with images of people")
    images = max(len(files) for _, _, files in rows)  # a wider sheet would be empty there
    sheet = Image.new("RGB", (images * side, len(rows) * (side + _TEXT)), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (part, person, files) in enumerate(rows):
        top = i * (side + _TEXT)
        pen.text((2, top + 1), drawable(f"{part}/{person}"), fill="black", font=lettering(_HIGH))
        for j, file in enumerate(files):
            face = decode(read_bytes(file), file)
            face.thumbnail((side, side))
            sheet.paste(face, (j * side + (side - face.width) // 2, top + _TEXT + (side - face.height) // 2))
    return sheet


def _some_people(root: Path, part: str, people: int, images: int) -> list[tuple[str, list[ImagePlace]]]:
    found = _packed_people(root, part) if is_packed(root) else _people(root / part)
    chosen = sorted(_first(list(found), people))
    return [
        (person, [found[person][name] for name in sorted(_first(list(found[person]), images))]) for person in chosen
    ]


_ByName = dict[str, dict[str, ImagePlace]]  # the images of every person


def _people(part: Path) -> _ByName:
    found = people_in(part, listed) if is_folder(part) else ()
    return {person.name: {file.name: file for file in files} for person, files in found if files}


def _packed_people(root: Path, part: str) -> _ByName:
    packed, found = open_packed(root), _ByName()
    for image, name in zip(packed.images, packed.names(), strict=True):
        own, person, key = name.split("/")
        if own == part:
            found.setdefault(person, {})[key] = image
    return found


def _first(names: Sequence[str], count: int) -> list[str]:
    return sorted(names, key=lambda name: hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest())[:count]


def write_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as PNG or JPEG, whole or not at all.

    Raises:
        InputError: another suffix, or the file cannot be written.
    """
    if path.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise InputError(f"--out '{shown(path)}' should end in .png or .jpg")
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG" if path.suffix.lower() == ".png" else "JPEG")
    try:
        write_bytes(path, buffer.getvalue())
    except OSError as error:
        raise InputError(f"--out: {shown(path)} cannot be written ({error.strerror}); choose another place") from error
