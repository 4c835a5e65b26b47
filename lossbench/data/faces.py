"""A data set as the other rooms see it: files, and splits that give the person and the part of every file."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lossbench.errors import InputError

if TYPE_CHECKING:
    from lossbench.data.images.recordio import ImagePlace


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
    """Images on disk and one split per class-disjoint fold. `names[i]` is ``person/file``, stable across machines."""

    name: str
    files: "Sequence[ImagePlace]"
    names: tuple[str, ...]
    folds: tuple[Split, ...]

    def split(self, repeat: int) -> Split:
        """Return the split of a repeat: repeat r uses fold r mod K."""
        return self.folds[repeat % len(self.folds)]

    def fingerprint(self, repeat: int) -> str:
        """Return the SHA-256 over every image's name, person and part in the split of `repeat`."""
        import hashlib  # late: listing data does without

        digest = hashlib.sha256()
        for part_name, part in self.split(repeat).parts():
            for row, label in zip(part.rows, part.labels, strict=True):
                digest.update(f"{part_name}\0{part.people[label]}\0{self.names[row]}\n".encode())
        return digest.hexdigest()

    def select(
        self, *, identities: int | None = None, min_images: int | None = None, images_per_identity: int | None = None
    ) -> "FaceSet":
        """Return the set with fewer people or training images; what is not asked for stays.

        Args:
            identities: the closed-set people with the most training images; ties by name.
            min_images: closed-set people with at least as many training images.
            images_per_identity: at most so many training images of a person, chosen by a hash of their names, so that
                more of them always include fewer; val and test stay as they are.

        Raises:
            InputError: there are not that many people, or too few are left.
        """
        wanted = identities, min_images, images_per_identity
        if wanted == (None, None, None):
            return self
        return replace(self, folds=tuple(self._select(split, *wanted) for split in self.folds))

    def _select(
        self, split: Split, identities: int | None, min_images: int | None, images_per_identity: int | None
    ) -> Split:
        people, images = split.train.people, Counter(split.train.labels)
        enough = [label for label in range(len(people)) if images[label] >= (min_images or 0)]
        if len(people) < 2:
            raise InputError("this data has 1 training person; a loss needs 2 or more: add people to train/")
        if len(enough) < 2:
            most = images.most_common(2)[-1][1]
            raise InputError(f"--min-images {min_images} leaves {len(enough)} training people; use at most {most}")
        if identities is not None and not 2 <= identities <= len(enough):
            raise InputError(
                f"--identities {identities} is out of range; this data has 2 to {len(enough)} training people"
                + (f" with {min_images} images" if min_images else "")
            )
        kept = sorted(sorted(enough, key=lambda label: (-images[label], people[label]))[:identities])
        new_label = {label: i for i, label in enumerate(kept)}

        def narrow(part: Part, most: int | None = None) -> Part:
            own: dict[int, list[int]] = {label: [] for label in kept}
            for row, label in zip(part.rows, part.labels, strict=True):
                if label in own:
                    own[label].append(row)
            if most is not None:
                own = {label: sorted(sorted(rows, key=self._draw)[:most]) for label, rows in own.items()}
            pairs = sorted((row, new_label[label]) for label, rows in own.items() for row in rows)
            return Part(tuple(r for r, _ in pairs), tuple(lb for _, lb in pairs), tuple(people[i] for i in kept))

        train = narrow(split.train, images_per_identity)
        return replace(split, train=train, val=narrow(split.val), test=narrow(split.test))

    def _draw(self, row: int) -> bytes:
        import hashlib  # late: listing data does without

        return hashlib.sha256(self.names[row].encode()).digest()
