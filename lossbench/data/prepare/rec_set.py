"""An InsightFace training set as it is distributed: which images of train.rec show which person."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lossbench.data.images.recordio import Integers, RecordImages
from lossbench.data.packed import texts
from lossbench.data.prepare.rec_index import Records, read_records
from lossbench.data.set_files import REC
from lossbench.errors import InputError
from lossbench.utils.files import is_folder, listed
from lossbench.utils.text import clipped, shown, some

IDX, PROPERTY = "train.idx", "property"
_EXACT = 2**24  # beyond, a float32 holds no odd whole number: keys in labels are rounded


@dataclass(frozen=True, eq=False)
class RecSet:
    """N images by key with their labels [N], and what `property` says: width and height, and notes about the set."""

    root: Path
    images: RecordImages
    labels: Integers
    size: tuple[int, int]
    notes: tuple[str, ...]

    def per_person(self) -> dict[str, int]:
        """Return the number of images of every person."""
        return dict(Counter(texts(self.labels)))


def read_rec(root: Path) -> RecSet:
    """Read train.rec, train.idx and property of a set.

    Where record 0 has labels and no image, it names the first record of a person and the end of these: all records
    between are images. Else every record is an image.

    Raises:
        InputError: a file is missing, damaged or does not fit the others.
    """
    if not is_folder(root):
        raise InputError(f"--root: no folder {shown(root)}; give a folder that holds {REC}, {IDX} and {PROPERTY}")
    classes, height, width = _read_property(root / PROPERTY)
    records = read_records(root / REC, root / IDX)
    chosen = _images(records, root)
    labels = _whole_labels(records, chosen, classes, root)
    _check_ranges(records, chosen, root)
    file = (root / REC).resolve()
    images = RecordImages(str(file), records.keys[chosen], records.starts[chosen], records.stops[chosen])
    notes = []
    if (people := len(np.unique(labels))) < classes:
        notes.append(f"{PROPERTY} announces {classes:,} people and {people:,} have images")
    if pickles := [file.name for file in listed(root) if file.suffix == ".bin"]:
        notes.append(
            f"not read, since they are pickles of verification pairs: {some(pickles)}; lossbench data prepare bin "
            "unpacks one safely"
        )
    return RecSet(root, images, labels, (width, height), tuple(notes))


def _read_property(path: Path) -> tuple[int, int, int]:
    try:
        with path.open("rb") as file:
            text = file.read(200).decode("ascii", "backslashreplace").strip()
    except OSError as error:
        rule = "it should hold CLASSES,HEIGHT,WIDTH, such as 85742,112,112"
        raise InputError(f"{shown(path)} cannot be read ({error.strerror}); {rule}") from error
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdigit() and len(part) < 12 and int(part) > 0 for part in parts):
        raise InputError(f"{shown(path)} holds '{clipped(text)}', not CLASSES,HEIGHT,WIDTH such as 85742,112,112")
    classes, height, width = map(int, parts)
    return classes, height, width


def _images(records: Records, root: Path) -> Integers:
    """Return which of the records are images."""
    if not (records.keys[0] == 0 and records.flags[0] > 0 and records.empty[0]):
        return np.arange(len(records.keys))
    first, last = records.labels[0].tolist()
    count = len(records.keys)
    begin = int(np.nonzero(~records.empty)[0].max(initial=0)) + 1
    if begin < first <= min(count, _EXACT) and (records.flags[begin : int(first)] != 2).all():
        begin = int(first)  # the last images are empty: they cannot be decoded, and are left out like others
    in_a_row = np.array_equal(records.keys, np.arange(count))
    if not in_a_row or (first, last) != (np.float32(begin), np.float32(count)):
        says = f"record 0 says that images end before key {first:g} and people before key {last:g}"
        found = f"lists {count:,} records, keys {records.keys[0]} to {records.keys[-1]}, with images up to {begin - 1}"
        raise InputError(f"{shown(root / IDX)} {found}, and {says}; download both again")
    return np.arange(1, begin)


def _check_ranges(records: Records, images: Integers, root: Path) -> None:
    """Refuse records of people, which come after all images, that do not give a range of images of one label each."""
    begin = int(images[-1]) + 1
    people = np.arange(begin, len(records.keys))
    ranges = records.labels[people].astype(np.float64)
    good = (records.flags[people] == 2) & (ranges[:, 0] >= 1) & (ranges[:, 0] <= ranges[:, 1])
    good &= ranges[:, 1] <= np.float32(begin)
    for i in people[~good][:1]:
        what = f"the record of key {i} says images {records.labels[i, 0]:g} to {records.labels[i, 1]:g}"
        raise InputError(f"{shown(root / REC)}: {what}, of images 1 to {begin - 1}; download it again")
    if begin > _EXACT:
        return
    steps = np.concatenate([[0], np.cumsum(np.diff(records.labels[1:begin, 0]) != 0)])  # changes of label so far
    a, b = ranges.astype(np.int64).T
    for i in np.nonzero((a < b) & (steps[np.minimum(a, begin - 1) - 1] != steps[np.maximum(b, 2) - 2]))[0][:1]:
        what = f"the record of key {people[i]} gives images {a[i]} to {b[i] - 1} to one person, and their labels differ"
        raise InputError(f"{shown(root / REC)}: {what}; download it again")


def _whole_labels(records: Records, chosen: Integers, classes: int, root: Path) -> Integers:
    labels: npt.NDArray[np.float32] = records.labels[chosen, 0]
    for i in np.nonzero(~np.isfinite(labels) | (labels != np.floor(labels)) | (labels < 0))[0][:1]:
        what = f"image {records.keys[chosen[i]]} has label {labels[i]:g}"
        raise InputError(f"{shown(root / REC)}: {what}; a label is a whole number from 0 on: download it again")
    for i in np.nonzero(labels >= classes)[0][:1]:
        what = f"image {records.keys[chosen[i]]} has label {labels[i]:g}"
        raise InputError(
            f"{shown(root / PROPERTY)} announces {classes:,} people, labels 0 to {classes - 1:,}, and {what}; it "
            "belongs to another set"
        )
    if not len(labels):
        raise InputError(f"{shown(root / REC)} holds no images; download it again")
    return labels.astype(np.int64)
