"""From a collection of photos to a tree of aligned crops whose split is folders on disk, described by split.json.

Everything is made in a hidden folder beside the target and renamed into place at the very end: the target is there if
and only if it is whole. An interrupted preparation continues from the finished crops of photos that did not change. The
same collection and options give the same bytes.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lossbench.data.images.decode import read_bytes
from lossbench.data.pairs import draw_pairs
from lossbench.data.prepare.collection import Collection, Photo
from lossbench.data.prepare.crops import make_crops
from lossbench.data.prepare.detected import LANDMARKS, Detected, Detection, look
from lossbench.data.prepare.doubtful import SHEET
from lossbench.data.prepare.fit import refuse_misfit
from lossbench.data.prepare.mtcnn import refuse_absent
from lossbench.data.prepare.options import CropOptions, SplitOptions
from lossbench.data.prepare.selection import choose, photos_of
from lossbench.data.prepare.split import choose_people
from lossbench.data.prepare.target import (
    DETECTIONS,
    alone,
    detections,
    put_in_place,
    refuse_in_use,
    waiting,
    work_folder,
)
from lossbench.data.set_files import SPLIT
from lossbench.data.split_file import Entry, SplitFile, write_manifest
from lossbench.data.tree import PARTS
from lossbench.errors import InputError
from lossbench.utils.files import write_bytes
from lossbench.utils.machine import lossbench_version
from lossbench.utils.processes import in_parallel
from lossbench.utils.settings import check
from lossbench.utils.text import shown, some


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made: images per part, people per part, and how far eyes lie from the template, in pixels.

    `left_out` names the images, and `passed_over` the people, that near-duplicates excluded. `usable` counts the photos
    of every person, without those left out since they show no face to use. `sheet` shows the doubtful ones.
    """

    folder: Path
    images: dict[str, int]
    people: dict[str, int]
    eye_error: float | None
    left_out: tuple[str, ...]
    passed_over: tuple[str, ...]
    new: bool
    usable: Mapping[str, int] = field(default_factory=dict)
    sheet: Path | None = None


def prepare(
    collection: Collection,
    out: Path,
    split: SplitOptions,
    crop: CropOptions,
    *,
    dedupe: bool = False,
    detection: Detection | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Prepared:
    """Align, crop and split a collection into `out`/{train,val,test,query,distractors}/PERSON/FILE.jpg.

    It also holds split.json; pairs.txt, verification pairs of the query people in LFW's format; and absent.txt if the
    collection lists files that are missing. With detection also landmarks.csv, detections.jsonl and doubtful.jpg.

    Args:
        collection: the photos.
        out: the tree to make; must not exist, be empty, or be what the same command made.
        split: how many people, shares, seed.
        crop: size and kind.
        dedupe: keep near-duplicates together in one split and count them as one image. A person with too few images
            left is passed over and replaced by the next: in the closed set by number of files, else by the seed.
        detection: find the face in every photo, and align by it.
        on_progress: called with crops finished and crops in all.

    Raises:
        InputError: options out of range, an unreadable photo, landmarks that do not fit, no face to be found, a target
            in use, or a disk that is full or not writable.
    """
    check(crop)
    if out.resolve().is_relative_to(collection.root.resolve()):
        raise InputError(
            f"--out: {shown(out)} is inside the collection {shown(collection.root)}; choose a folder beside it"
        )
    choose_people(collection.per_person(), split)
    refuse_misfit(collection)
    if detection is not None:
        refuse_absent()
    order = _Order(collection, split, crop, dedupe, detection)
    try:
        if (out / SPLIT).is_file():
            return _already_there(order, out)
        refuse_in_use(out)
        with alone(out) as work:
            try:
                _take_back(work)
                detected = None
                if detection is not None:
                    detected = look(collection, detection, split.min_images, detections(out), detections(out))
                    order = _with_faces(order, detected, out)
                return _make(order, detected, out, on_progress)
            except InputError as error:
                raise InputError(f"{error}{_waiting(out)}") from error
    except OSError as error:
        reason = error.strerror or error
        raise InputError(
            f"--out: {shown(out)} cannot be written ({reason}); make room or choose another place{_waiting(out)}"
        ) from error


@dataclass(frozen=True)
class _Order:
    """What is to be made, of which photos."""

    collection: Collection
    split: SplitOptions
    crop: CropOptions
    dedupe: bool
    detection: Detection | None

    def header(self) -> dict[str, Any]:
        """Return what split.json says before its files."""
        collection, detect = self.collection, self.detection.parameters() if self.detection else {}
        return {
            "lossbench": lossbench_version(),
            "source": {"kind": collection.kind, "root": collection.root.resolve().as_posix()},
            "parameters": {**asdict(self.split), **asdict(self.crop), "dedupe": self.dedupe, **detect},
            "absent": len(collection.absent),
            "notes": [*collection.notes, *too_few(collection.per_person(), self.split)],
        }


def _with_faces(order: _Order, detected: Detected, out: Path | None = None) -> _Order:
    """Return the order with the landmarks found in its photos."""
    assert order.detection is not None
    try:
        found = replace(order, collection=detected.collection(order.collection, order.detection))
    except InputError:  # nobody has a face: nothing is worth keeping
        if out is not None:
            detections(out).unlink(missing_ok=True)
        raise
    before = order.header()["notes"]
    order.detection.on_notes([note for note in found.header()["notes"] if note not in before])
    return found


def too_few(images: Mapping[str, int], split: SplitOptions) -> list[str]:
    """Return a note that counts the people who have fewer images than `min_images`, if there are any."""
    few = sorted(person for person, count in images.items() if count < split.min_images)
    if not few:
        return []
    what = f"people have fewer than {split.min_images} images (--min-images) and are left out"
    return [f"{len(few):,} of {len(images):,} {what}: {some(few)}"]


def _waiting(out: Path) -> str:
    what = waiting(out)
    return f"; {what}: run the same command again to continue, or delete that folder" if what else ""


def _make(order: _Order, detected: Detected | None, out: Path, on_progress: Callable[[int, int], None]) -> Prepared:
    work, collection, split = work_folder(out), order.collection, order.split
    make = partial(make_crops, collection, folder=work / "crops", options=order.crop, on_progress=on_progress)
    choice = choose(collection.per_person(), partial(photos_of, collection), split, make, dedupe=order.dedupe)
    part_of, crops = choice.part_of, choice.made
    photos, names = photos_of(collection, choice.people)
    placed = {f"{part_of[name]}/{name}": crops[name].file for name in names if name in part_of}
    tree = _arrange(work, placed)
    entries = [
        _entry(photo, name, part_of[name], crops[name].sha256, collection)
        for photo, name in zip(photos, names, strict=True)
        if name in part_of
    ]
    entries.sort(key=lambda entry: (PARTS.index(entry.split), entry.path))
    eyes = [crops[name].eye_error for name in names]
    eye_error = _mean([error for error in eyes if error is not None])
    if collection.absent:
        write_bytes(tree / "absent.txt", "".join(f"{name}\n" for name in collection.absent).encode())
    query = [name for name in names if part_of.get(name) == "query"]
    images_of = {p: [n.split("/")[1] for n in query if n.split("/")[0] == p] for p in choice.people["query"]}
    if (pairs := draw_pairs(images_of, split.seed)) is not None:
        write_bytes(tree / "pairs.txt", pairs.encode())
    if detected is not None:
        detected.write(tree)
    digests = {name: made.source_sha256 for name, made in crops.items()}
    found = {
        "photos": _fingerprint(collection, choice.people, choice.passed_over, digests),
        "eye_error_px": eye_error,
        "left_out": choice.left_out,
        "passed_over": choice.passed_over,
    }
    write_manifest(tree, {**order.header(), **found}, entries)
    put_in_place(tree, out)
    shutil.rmtree(work / "crops")
    detections(out).unlink(missing_ok=True)
    return _summary(order, out, [asdict(entry) for entry in entries], found, new=True)


def _fingerprint(
    collection: Collection, people: Mapping[str, Sequence[str]], passed_over: Sequence[str], digests: Mapping[str, str]
) -> str:
    """Return the SHA-256 over the photos' names, content and landmarks."""
    total = hashlib.sha256()
    for photo, name in zip(*photos_of(collection, {**people, "passed over": passed_over}), strict=True):
        total.update(f"{name}\0{digests[name]}\0{photo.landmarks}\n".encode())
    return total.hexdigest()


def _already_there(order: _Order, out: Path) -> Prepared:
    """Return what the same command made from the same photos, all of which are read."""
    split_file = SplitFile.of(out)
    manifest = split_file.content if split_file else {}
    if _same(manifest, order.header(), "parameters", "source", "lossbench"):
        if order.detection is not None:
            detected = look(order.collection, order.detection, order.split.min_images, out / DETECTIONS, None)
            order = _with_faces(order, detected)
        collection, passed_over, header = order.collection, manifest.get("passed_over"), order.header()
        if _same(manifest, header, *header) and isinstance(passed_over, list):
            counts = {p: count for p, count in collection.per_person().items() if p not in passed_over}
            people = choose_people(counts, order.split)
            photos, names = photos_of(collection, {**people, "passed over": passed_over})
            digests = dict(zip(names, in_parallel(_source_sha256, [photo.path for photo in photos]), strict=True))
            if manifest.get("photos") == _fingerprint(collection, people, passed_over, digests):
                return _summary(order, out, manifest["files"], manifest, new=False)
    also = f", but keep its {LANDMARKS} if you have corrected it" if (out / LANDMARKS).exists() else ""
    raise InputError(
        f"--out: {shown(out)} was prepared with other data or options; choose another folder or delete it{also}"
    )


def _same(manifest: Mapping[str, Any], header: Mapping[str, Any], *keys: str) -> bool:
    return bool({key: manifest.get(key) for key in keys} == json.loads(json.dumps({key: header[key] for key in keys})))


def _source_sha256(file: Path) -> str:
    return hashlib.sha256(read_bytes(file)).hexdigest()


def _take_back(work: Path) -> None:
    """Fill the work folder: crops that an interrupted preparation had moved into the tree are moved back."""
    (work / "crops").mkdir(parents=True, exist_ok=True)
    tree, note = work / "tree", work / _PLACED
    if tree.is_dir() and note.is_file():
        for path, crop in json.loads(note.read_bytes()).items():
            if (tree / path).is_file():
                (tree / path).rename(work / "crops" / crop)
    shutil.rmtree(tree, ignore_errors=True)


_PLACED = "placed.json"


def _arrange(work: Path, placed: Mapping[str, Path]) -> Path:
    """Move every crop to its place in the tree."""
    tree, crops = work / "tree", work / "crops"
    write_bytes(work / _PLACED, json.dumps({p: c.relative_to(crops).as_posix() for p, c in placed.items()}).encode())
    for path, crop in placed.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        crop.rename(tree / path)
    return tree


def _entry(photo: Photo, name: str, part: str, sha256: str, collection: Collection) -> Entry:
    source = photo.path.relative_to(collection.root).as_posix()
    return Entry(f"{part}/{name}", sha256, photo.person, part, source, photo.landmarks, dict(photo.facts))


def _mean(values: Sequence[float]) -> float | None:
    return round(float(np.mean(values)), 4) if values else None


def _summary(
    order: _Order, out: Path, files: Sequence[Mapping[str, Any]], found: Mapping[str, Any], new: bool
) -> Prepared:
    images = Counter(file["split"] for file in files)
    people = {part: len({file["identity"] for file in files if file["split"] == part}) for part in PARTS}
    left_out, passed_over = tuple(found["left_out"]), tuple(found["passed_over"])
    counts = {part: images[part] for part in PARTS}
    usable, sheet = order.collection.per_person(), out / SHEET
    eyes = found["eye_error_px"]
    return Prepared(out, counts, people, eyes, left_out, passed_over, new, usable, sheet if sheet.is_file() else None)
