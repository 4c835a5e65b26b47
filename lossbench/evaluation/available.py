"""What is measured, without the images that a model has no embedding of: all models are then measured on the same."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lossbench.data.faces import Part
from lossbench.data.images.recordio import ImagePlace
from lossbench.data.pairs import PairSet
from lossbench.data.templates import TemplateSet
from lossbench.data.tree import UnseenPeople
from lossbench.errors import InputError
from lossbench.evaluation.model_files import EmbeddingsModel
from lossbench.evaluation.pair_lists import PairList
from lossbench.utils.text import shown

Has = Callable[[ImagePlace], bool]


@dataclass(frozen=True)
class Measured:
    """What models are measured on: unseen people, lists of pairs, templates; and how many images are left out."""

    unseen: UnseenPeople | None
    lists: tuple[PairList, ...]
    templates: TemplateSet | None
    left_out: int = 0

    def files(self) -> list[ImagePlace]:
        """Return every image, each once."""
        people, pairs = self.unseen.files if self.unseen else (), (f for one in self.lists for f in one.pairs.files)
        return list(dict.fromkeys([*people, *pairs, *(self.templates.files if self.templates else ())]))

    def without(self, missing: Collection[ImagePlace]) -> "Measured":
        """Return it without these images.

        Raises:
            InputError: too little is left of the people, of a list or of the templates.
        """

        def has(file: ImagePlace) -> bool:
            return file not in missing

        return Measured(
            people_with(self.unseen, has) if self.unseen else None,
            tuple(PairList(one.name, pairs_with(one.name, one.pairs, has)) for one in self.lists),
            templates_with(self.templates, has) if self.templates else None,
            self.left_out + len(missing),
        )


def with_embeddings(
    models: Sequence[object], measured: Measured, *, on_note: Callable[[str], None] = lambda note: None
) -> Measured:
    """Return what every one of the models that are embeddings alone has embeddings of.

    Args:
        models: whatever models are measured.
        measured: what they are measured on.
        on_note: called with a line for each model that has none of some images.

    Raises:
        InputError: as `Measured.without`, or two images have one embedding.
    """
    arrays = [one for one in models if isinstance(one, EmbeddingsModel)]
    files, missing = measured.files() if arrays else [], set()
    for one in arrays:
        if own := one.without(files):
            more = ", ..." if len(own) > 1 else ""
            on_note(
                f"note: {shown(one.source)} has no embedding of {len(own):,} of {len(files):,} images "
                f"({shown(own[0])}{more}); they are left out for every model"
            )
            missing.update(own)
    return measured.without(missing) if missing else measured


def people_with(unseen: UnseenPeople, has: Has) -> UnseenPeople:
    """Return the people, and the images of each, that there are embeddings of.

    Raises:
        InputError: fewer than two query people are left.
    """
    kept = [row for row, file in enumerate(unseen.files) if has(file)]
    position = {row: i for i, row in enumerate(kept)}

    def left(part: Part) -> Part:
        pairs = [(position[row], label) for row, label in zip(part.rows, part.labels, strict=True) if row in position]
        labels = sorted({label for _, label in pairs})
        number = {label: i for i, label in enumerate(labels)}
        people = tuple(part.people[label] for label in labels)
        return Part(tuple(row for row, _ in pairs), tuple(number[label] for _, label in pairs), people)

    query = left(unseen.query)
    if len(query.people) < 2:
        raise InputError(f"{_few(len(kept), len(unseen.files))} of --data, of fewer than two query people; {_CURE}")
    files, names = tuple(unseen.files[row] for row in kept), tuple(unseen.names[row] for row in kept)
    return replace(unseen, files=files, names=names, query=query, distractors=left(unseen.distractors))


def pairs_with(name: str, pairs: PairSet, has: Has) -> PairSet:
    """Return the pairs that there are embeddings of both images of.

    Raises:
        InputError: no pair of one person or of two is left, or those left are in one fold.
    """
    there = [has(file) for file in pairs.files]
    kept = [i for i, (a, b) in enumerate(zip(pairs.a, pairs.b, strict=True)) if there[a] and there[b]]
    same, folds = tuple(pairs.same[i] for i in kept), tuple(pairs.folds[i] for i in kept)
    if len(set(same)) < 2 or len(set(folds)) < 2:
        raise InputError(f"{_few(sum(there), len(there))} of --pairs {name}, too few to verify any; {_CURE}")
    position: dict[int, int] = {}
    a, b = (tuple(position.setdefault(side[i], len(position)) for i in kept) for side in (pairs.a, pairs.b))
    return replace(pairs, files=tuple(pairs.files[row] for row in position), a=a, b=b, same=same, folds=folds)


def templates_with(templates: TemplateSet, has: Has) -> TemplateSet:
    """Return the templates that there are embeddings of an image of, without the others' pairs.

    Raises:
        InputError: no pair of one person or of two is left.
    """
    there = np.asarray([has(file) for file in templates.files])
    entries = there[templates.rows]
    own, position = np.unique(templates.templates[entries], return_inverse=True)
    number = np.full(len(templates.ids), -1, dtype=np.int32)
    number[own] = np.arange(len(own))
    a, b = number[templates.a], number[templates.b]
    both = (a >= 0) & (b >= 0)
    same = templates.same[both]
    if not same.any() or same.all():
        raise InputError(f"{_few(int(there.sum()), len(there))} of --templates, too few to compare any; {_CURE}")
    return replace(
        templates,
        files=tuple(file for file, kept in zip(templates.files, there, strict=True) if kept),
        rows=(np.cumsum(there) - 1)[templates.rows[entries]],
        templates=position,
        media=templates.media[entries],
        weights=None if templates.weights is None else templates.weights[entries],
        ids=tuple(templates.ids[i] for i in own),
        people=None if templates.people is None else tuple(templates.people[i] for i in own),
        a=a[both],
        b=b[both],
        same=same,
    )


_CURE = "name images in 'files' as their paths end"


def _few(there: int, count: int) -> str:
    return f"there are embeddings of {there:,} of the {count:,} images"
