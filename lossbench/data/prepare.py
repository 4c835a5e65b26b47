"""From a collection of photos to a tree of aligned crops whose split is folders on disk, described by split.json.

Everything is made in a hidden folder beside the target and renamed into place at the very end: the target is there if
and only if it is whole. An interrupted preparation goes on from the crops that are finished. The same collection and
options give the same bytes.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lossbench import __version__
from lossbench.data.atomic import write_bytes
from lossbench.data.collection import Collection, Photo
from lossbench.data.crops import CropOptions, make_crops
from lossbench.data.duplicates import groups_of, near_duplicates
from lossbench.data.folders import PARTS
from lossbench.data.manifest import NAME, Entry, SplitFile, write_manifest
from lossbench.data.names import shown
from lossbench.data.pairs import draw_pairs
from lossbench.data.splitting import SplitOptions, choose_people, split_images
from lossbench.errors import InputError


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made: images per part, people per part, and how far eyes lie from the template, in pixels."""

    folder: Path
    images: dict[str, int]
    people: dict[str, int]
    eye_error: float | None
    left_out: tuple[str, ...]
    new: bool


def prepare(
    collection: Collection,
    out: Path,
    split: SplitOptions,
    crop: CropOptions,
    *,
    dedupe: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Prepared:
    """Align, crop and split a collection into `out`/{train,val,test,query,distractors}/PERSON/FILE.jpg.

    Beside the folders: split.json; pairs.txt, verification pairs of the query people in LFW's format; absent.txt where
    the collection lists files that are not there.

    Args:
        collection: the photos.
        out: the tree to make; must not exist, be empty, or be what the same command made.
        split: how many people, shares, seed.
        crop: size and kind.
        dedupe: keep near-duplicates together in one split.
        on_progress: called with crops finished and crops in all.

    Raises:
        InputError: options out of range, an unreadable photo, a target in use, or a disk that is full or not writable.
    """
    crop.check()
    chosen = choose_people(collection.per_person(), split)
    wanted = {person for people in chosen.values() for person in people}
    photos = [photo for photo in collection.photos if photo.person in wanted]
    names = _crop_names(photos)
    parameters = {**asdict(split), **asdict(crop), "dedupe": dedupe}
    header = {
        "lossbench": __version__,
        "source": {"kind": collection.kind, "root": collection.root.resolve().as_posix()},
        "parameters": parameters,
        "photos": _fingerprint(photos, names),
        "absent": len(collection.absent),
        "notes": list(collection.notes),
    }
    if (out / NAME).is_file():
        return _already_there(out, header)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"--out: {shown(out)} exists and was not made by this command; choose another folder or delete it"
        )
    work = out.absolute().with_name(f".{out.name}.preparing")
    try:
        _start_or_resume(work, header)
        crops = make_crops(collection, photos, names, work / "crops", crop, on_progress)
        groups = groups_of(near_duplicates(np.stack([c.thumbnail for c in crops])), names) if dedupe else None
        people: dict[str, list[str]] = {}
        for photo, name in zip(photos, names, strict=True):
            people.setdefault(photo.person, []).append(name)
        part_of, left_out = split_images(people, chosen, split, groups)
        tree = _arrange(work, part_of)
        entries = [
            _entry(photo, name, part_of[name], crop_made.sha256, collection)
            for photo, name, crop_made in zip(photos, names, crops, strict=True)
            if name in part_of
        ]
        entries.sort(key=lambda entry: (PARTS.index(entry.split), entry.path))
        eye_error = _mean([c.eye_error for c in crops if c.eye_error is not None])
        if collection.absent:
            write_bytes(tree / "absent.txt", "".join(f"{name}\n" for name in collection.absent).encode())
        pairs = draw_pairs(
            {p: [n.split("/")[1] for n in people[p] if n in part_of] for p in chosen["query"]}, split.seed
        )
        if pairs is not None:
            write_bytes(tree / "pairs.txt", pairs.encode())
        write_manifest(tree, {**header, "eye_error_px": eye_error, "left_out": left_out}, entries)
        if out.is_dir():
            out.rmdir()
        tree.rename(out)
        shutil.rmtree(work)
    except OSError as error:
        raise InputError(
            f"--out: {shown(out)} cannot be written ({error.strerror or error}); what is finished waits in "
            f"{shown(work)}: "
            "make room and give the same command again, or delete it"
        ) from error
    return _summary(out, entries, eye_error, left_out, new=True)


def _crop_names(photos: Sequence[Photo]) -> list[str]:
    names = [f"{photo.person}/{photo.path.stem}.jpg" for photo in photos]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"two photos would both become {shown(twice[0])}; rename one of them")
    return names


def _fingerprint(photos: Sequence[Photo], names: Sequence[str]) -> str:
    """Return the SHA-256 over which photos these are, by name, size and landmarks: a resumed preparation must match."""
    digest = hashlib.sha256()
    for photo, name in zip(photos, names, strict=True):
        try:
            size = photo.path.stat().st_size
        except OSError as error:
            raise InputError(f"{shown(photo.path)} cannot be read ({error.strerror}); replace or remove it") from error
        digest.update(f"{name}\0{size}\0{photo.landmarks}\n".encode())
    return digest.hexdigest()


def _already_there(out: Path, header: Mapping[str, Any]) -> Prepared:
    found = SplitFile.of(out)
    manifest = found.content if found else {}
    same = {name: manifest.get(name) for name in header} == json.loads(json.dumps(header))
    if not same:
        raise InputError(
            f"--out: {shown(out)} was prepared with other data or options; choose another folder or delete it"
        )
    entries = [Entry(**entry) for entry in manifest["files"]]
    return _summary(out, entries, manifest["eye_error_px"], manifest["left_out"], new=False)


def _start_or_resume(work: Path, header: Mapping[str, Any]) -> None:
    """Make the work folder; keep what an interrupted preparation of the very same tree left in it."""
    note, text = work / "header.json", json.dumps(header, sort_keys=True)
    if work.exists() and not (note.is_file() and note.read_text(encoding="utf-8") == text):
        shutil.rmtree(work)
    (work / "crops").mkdir(parents=True, exist_ok=True)
    write_bytes(note, text.encode())
    for crop in (work / "tree").glob("*/*/*.jpg"):  # stopped while crops were being put in their places
        back = work / "crops" / crop.parent.name / crop.name
        back.parent.mkdir(exist_ok=True)
        crop.rename(back)
    shutil.rmtree(work / "tree", ignore_errors=True)


def _arrange(work: Path, part_of: Mapping[str, str]) -> Path:
    """Put every crop into the folder of its part, by renaming."""
    tree = work / "tree"
    for name, part in part_of.items():
        target = tree / part / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (work / "crops" / name).rename(target)
    return tree


def _entry(photo: Photo, name: str, part: str, sha256: str, collection: Collection) -> Entry:
    source = photo.path.relative_to(collection.root).as_posix()
    return Entry(f"{part}/{name}", sha256, photo.person, part, source, photo.landmarks, dict(photo.facts))


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _summary(
    out: Path, entries: Sequence[Entry], eye_error: float | None, left_out: Sequence[str], new: bool
) -> Prepared:
    images = Counter(entry.split for entry in entries)
    people = {part: len({e.identity for e in entries if e.split == part}) for part in PARTS}
    return Prepared(out, {part: images[part] for part in PARTS}, people, eye_error, tuple(left_out), new)
