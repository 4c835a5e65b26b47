"""Which people of a collection are used for what. Near-duplicates count once, which is known only after cropping."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lossbench.data.prepare.collection import Collection, Photo
from lossbench.data.prepare.crops import MadeCrop
from lossbench.data.prepare.duplicates import groups_of, near_duplicates
from lossbench.data.prepare.options import SplitOptions
from lossbench.data.prepare.split import choose_people, split_images
from lossbench.errors import InputError
from lossbench.utils.text import shown


@dataclass(frozen=True)
class Choice:
    """The people of each set, the part of every image, crops by name, and what near-duplicates cost."""

    people: dict[str, list[str]]
    part_of: dict[str, str]
    crops: dict[str, MadeCrop]
    left_out: list[str]
    passed_over: list[str]


def choose(
    collection: Collection,
    split: SplitOptions,
    make: Callable[[Sequence[Photo], Sequence[str]], list[MadeCrop]],
    *,
    dedupe: bool,
) -> Choice:
    """Choose people, make their crops, and choose again without those left with too few images by near-duplicates.

    Args:
        collection: the photos.
        split: how many people, shares, seed.
        make: makes the crops of photos, given the photos and the crops' names.
        dedupe: find near-duplicates and keep them together.

    Raises:
        InputError: options out of range, not enough people, or what `make` raises.
    """
    passed_over: list[str] = []
    crops: dict[str, MadeCrop] = {}
    while True:
        people = _choose_without(collection, split, passed_over)
        photos, names = photos_of(collection, people)
        new = {name: photo for photo, name in zip(photos, names, strict=True) if name not in crops}
        crops |= zip(new, make(list(new.values()), list(new)), strict=True)
        groups = None
        if dedupe:
            groups = groups_of(near_duplicates(np.stack([crops[name].thumbnail for name in names])), names)
        images: dict[str, list[str]] = {}
        for photo, name in zip(photos, names, strict=True):
            images.setdefault(photo.person, []).append(name)
        part_of, left_out, unfit = split_images(images, people, split, groups)
        if not unfit:
            return Choice(people, part_of, crops, left_out, sorted(passed_over))
        passed_over += unfit


def _choose_without(collection: Collection, split: SplitOptions, passed_over: Sequence[str]) -> dict[str, list[str]]:
    counts = collection.per_person()
    try:
        return choose_people({p: count for p, count in counts.items() if p not in passed_over}, split)
    except InputError as error:
        few = f"; --dedupe passed over {len(passed_over)} people with too few images that differ" if passed_over else ""
        raise InputError(f"{error}{few}") from error


def photos_of(collection: Collection, people: Mapping[str, Sequence[str]]) -> tuple[list[Photo], list[str]]:
    """Return the photos of these people and the names of their crops, ``person/file.jpg``.

    Raises:
        InputError: two photos would have crops of one name.
    """
    wanted = {person for part in people.values() for person in part}
    photos = [photo for photo in collection.photos if photo.person in wanted]
    names = [f"{photo.person}/{photo.path.stem}.jpg" for photo in photos]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"two photos would both become {shown(twice[0])}; rename one of them")
    return photos, names
