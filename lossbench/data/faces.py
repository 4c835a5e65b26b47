"""What a data set is to the rest: files, and splits that say which file is whom and what it is for."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lossbench.errors import InputError


@dataclass(frozen=True)
class Part:
    """The images of one split, all parallel and sorted: their rows in the data set's `files`, and who is on each.

    `labels[i]` counts within `people`. The closed-set parts share the `people` of train.
    """

    rows: tuple[int, ...]
    labels: tuple[int, ...]
    people: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Split:
    """Who is seen in training, and how; who is not. train, val and test hold other images of the same people."""

    train: Part
    val: Part
    test: Part
    query: Part
    distractors: Part

    def parts(self) -> Iterator[tuple[str, Part]]:
        """Yield name and part, in the order of `lossbench.data.PARTS`."""
        yield from vars(self).items()


@dataclass(frozen=True)
class FaceSet:
    """Files on disk and one split per class-disjoint fold. `names[i]` is ``person/file``, stable across machines."""

    name: str
    files: tuple[Path, ...]
    names: tuple[str, ...]
    folds: tuple[Split, ...]

    def split(self, repeat: int) -> Split:
        """Return the split of a repeat: repeat r uses fold r mod K."""
        return self.folds[repeat % len(self.folds)]

    def fingerprint(self, repeat: int) -> str:
        """Return the SHA-256 over every image's name, person and part in the split of `repeat`."""
        digest = hashlib.sha256()
        for part_name, part in self.split(repeat).parts():
            for row, label in zip(part.rows, part.labels, strict=True):
                digest.update(f"{part_name}\0{part.people[label]}\0{self.names[row]}\n".encode())
        return digest.hexdigest()

    def largest(self, count: int) -> "FaceSet":
        """Return the set with the `count` closed-set people who have the most training images; ties by name.

        Raises:
            InputError: there are not that many people.
        """
        return replace(self, folds=tuple(_largest(split, count) for split in self.folds))


def _largest(split: Split, count: int) -> Split:
    people = split.train.people
    if not 2 <= count <= len(people):
        raise InputError(f"--identities {count} is out of range; this data has 2 to {len(people)} training people")
    images = Counter(split.train.labels)
    ranked = sorted(range(len(people)), key=lambda label: (-images[label], people[label]))
    kept = sorted(ranked[:count])

    def narrow(part: Part) -> Part:
        new_label = {label: i for i, label in enumerate(kept)}
        pairs = [(r, new_label[lb]) for r, lb in zip(part.rows, part.labels, strict=True) if lb in new_label]
        return Part(tuple(r for r, _ in pairs), tuple(lb for _, lb in pairs), tuple(people[i] for i in kept))

    return replace(split, train=narrow(split.train), val=narrow(split.val), test=narrow(split.test))
