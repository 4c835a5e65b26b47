"""Which people of a collection are used for what. What is learnt only by opening images may change the choice.

Near-duplicates count once, and images that cannot be used not at all.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np

from lossbench.data.prepare.collection import Collection, Photo
from lossbench.data.prepare.duplicates import Thumbnails, groups_of, near_duplicates
from lossbench.data.prepare.options import SplitOptions
from lossbench.data.prepare.split import choose_people, split_images
from lossbench.errors import InputError
from lossbench.utils.text import shown


class HasThumbnail(Protocol):
    """What is made of an image, with the thumbnail by which its near-duplicates are found."""

    @property
    def thumbnail(self) -> Thumbnails:
        """Grey values [32, 32]."""


Item = TypeVar("Item")
Made = TypeVar("Made", bound=HasThumbnail)


@dataclass(frozen=True)
class Choice(Generic[Made]):
    """The people of each set, the part of every image, what was made of each by name, and what duplicates cost."""

    people: dict[str, list[str]]
    part_of: dict[str, str]
    made: dict[str, Made]
    left_out: list[str]
    passed_over: list[str]


def choose(
    counts: Mapping[str, int],
    images_of: Callable[[Mapping[str, Sequence[str]]], tuple[list[Item], list[str]]],
    split: SplitOptions,
    make: Callable[[Sequence[Item], Sequence[str]], Sequence[Made | None]],
    *,
    dedupe: bool,
) -> Choice[Made]:
    """Choose people, open their images, and choose again without those who are left with too few.

    Args:
        counts: number of images per person.
        images_of: the images of the people of each set, and their names, ``person/file``.
        split: how many people, shares, seed.
        make: opens images, given them and their names; None stands for an image that cannot be used.
        dedupe: find near-duplicates and keep them together.

    Raises:
        InputError: options out of range, not enough people, or what `make` raises.
    """
    counts, passed_over = dict(counts), list[str]()
    made: dict[str, Made | None] = {}
    while True:
        people = _choose_without(counts, split, passed_over)
        images, names = images_of(people)
        new = {name: image for image, name in zip(images, names, strict=True) if name not in made}
        opened = dict(zip(new, make(list(new.values()), list(new)), strict=True))
        made |= opened
        if bad := Counter(_person(name) for name, one in opened.items() if one is None):
            counts = {person: count - bad[person] for person, count in counts.items()}
            continue
        usable = {name: one for name in names if (one := made[name]) is not None}
        groups = None
        if dedupe:
            groups = groups_of(near_duplicates(np.stack([one.thumbnail for one in usable.values()])), list(usable))
        own: dict[str, list[str]] = {}
        for name in usable:
            own.setdefault(_person(name), []).append(name)
        part_of, left_out, unfit = split_images(own, people, split, groups)
        if not unfit:
            kept = {name: one for name, one in made.items() if one is not None}
            return Choice(people, part_of, kept, left_out, sorted(passed_over))
        passed_over += unfit


def _person(name: str) -> str:
    return name.split("/")[0]


def _choose_without(counts: Mapping[str, int], split: SplitOptions, passed_over: Sequence[str]) -> dict[str, list[str]]:
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
