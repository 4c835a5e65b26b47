"""Assigns people to the closed and open sets, and each image to a part; every draw is a hash of (seed, name)."""

import hashlib
from collections.abc import Mapping, Sequence

from lossbench.data.prepare.options import SplitOptions
from lossbench.data.tree import AT_LEAST, CLOSED, OPEN
from lossbench.errors import InputError


def draw(seed: int, name: str) -> bytes:
    """Return the place of `name` in a shuffle: it depends on the seed and the name alone."""
    return hashlib.sha256(f"{seed}\0{name}".encode()).digest()


def choose_people(images: Mapping[str, int], options: SplitOptions) -> dict[str, list[str]]:
    """Choose the people of the closed set (those with the most images, ties by name), then of query and distractors.

    Query and distractor people are drawn by the seed from the remaining people with enough images.

    Args:
        images: number of images per person.
        options: how many; what is None is up to their `sizes`.

    Returns:
        The sorted names for ``closed``, ``query`` and ``distractors``.

    Raises:
        InputError: a value out of range, or not enough people.
    """
    if options.min_images < 4:
        raise InputError(
            f"--min-images {options.min_images} is too few; a person needs 4: 2 for train, 1 for val and test"
        )
    if not (0 < options.val < 1 and 0 < options.test < 1 and options.val + options.test < 1):
        raise InputError(
            f"--val {options.val} and --test {options.test} must be positive shares that leave some for train"
        )
    enough = sorted((p for p, count in images.items() if count >= options.min_images), key=lambda p: (-images[p], p))
    closed, query, distractors = options.sizes(len(enough))
    for name, value, least in (
        ("identities", closed, 2),
        ("query-identities", query, 2 if query or not options.may_lack_unseen else 0),
        ("distractor-identities", distractors, 0 if options.may_lack_unseen else 1),
    ):
        if value < least:
            raise InputError(f"--{name} {value} is too few; use {least} or more ({_have(enough, images, options)})")
    if distractors and not query:
        raise InputError(
            f"--distractor-identities {distractors} without query people measures nothing; use 0, or "
            "--query-identities 2 or more"
        )
    if closed + query + distractors > len(enough):
        raise InputError(
            f"{closed} + {query} + {distractors} people (closed set, query, distractors) are asked for; "
            f"{_have(enough, images, options)}: lower --identities or --min-images"
        )
    left = sorted(enough[closed:], key=lambda person: draw(options.seed, person))
    return {
        "closed": sorted(enough[:closed]),
        "query": sorted(left[:query]),
        "distractors": sorted(left[query : query + distractors]),
    }


def _have(enough: Sequence[str], images: Mapping[str, int], options: SplitOptions) -> str:
    return f"{len(enough)} of {len(images)} people have {options.min_images} images or more"


def split_images(
    people: Mapping[str, Sequence[str]],
    chosen: Mapping[str, Sequence[str]],
    options: SplitOptions,
    groups: Mapping[str, int] | None = None,
) -> tuple[dict[str, str], list[str], list[str]]:
    """Assign every image of the chosen people to a part.

    A person's images are shuffled by the seed; the first `test` share (rounded, at least one) is test, the next `val`
    share val, the rest train.

    Args:
        people: image names, ``person/file``, by person.
        chosen: from `choose_people`.
        options: shares and seed.
        groups: the group of every image that has near-duplicates. Images of a group stay together in one part; those
            of an open-set person are left out if their group is in another part. A group counts as one image, and
            goes to train if it holds more images than the requested share.

    Returns:
        The part of every image; the images left out; and the people left by near-duplicates with fewer than
        `min_images` images, fewer than 2 in train, or none in val or test (closed set), fewer than 2 (query), or none
        (distractors).

    Raises:
        InputError: the shares leave a person fewer than 2 images for train.
    """
    groups = groups or {}
    part_of: dict[str, str] = {}
    taken: dict[int, tuple[str, str]] = {}  # group -> part and, in the open set, person
    left_out = []
    unfit = []
    for person in chosen["closed"]:
        units = _units(people[person], groups, options.seed)
        shares = {"test": options.test, "val": options.val}
        want = {part: max(1, round(len(units) * share)) for part, share in shares.items()}
        largest = {part: max(1, round(len(people[person]) * share)) for part, share in shares.items()}
        have = dict.fromkeys(CLOSED, 0)
        for unit in units:
            group = groups.get(unit[0], -1)
            fitting = (part for part in shares if have[part] < want[part] and len(unit) <= largest[part])
            short = next(fitting, "train")
            part = taken.setdefault(group, (short, ""))[0] if group >= 0 else short
            have[part] += 1
            part_of.update(dict.fromkeys(unit, part))
        if len(units) < options.min_images or any(have[part] < AT_LEAST[part] for part in CLOSED):
            if not any(image in groups for image in people[person]):
                raise InputError(
                    f"--val {options.val} and --test {options.test} leave person '{person}' {have['train']} of "
                    f"{len(units)} images for train; lower them or raise --min-images, so that at least 2 are left"
                )
            unfit.append(person)
    for part in OPEN:
        for person in chosen[part]:
            units, kept = _units(people[person], groups, options.seed), 0
            for unit in units:
                group = groups.get(unit[0], -1)
                if group >= 0 and taken.setdefault(group, (part, person)) != (part, person):
                    left_out += unit
                else:
                    kept += 1
                    part_of.update(dict.fromkeys(unit, part))
            if len(units) < options.min_images or kept < AT_LEAST[part]:
                unfit.append(person)
    return part_of, sorted(left_out), unfit


def _units(images: Sequence[str], groups: Mapping[str, int], seed: int) -> list[list[str]]:
    """Return groups of images that stay together, in the order of the shuffle."""
    units: dict[object, list[str]] = {}
    for image in sorted(images):
        units.setdefault(groups.get(image, image), []).append(image)
    return sorted(units.values(), key=lambda unit: draw(seed, unit[0]))
