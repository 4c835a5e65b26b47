"""Several verification lists side by side, such as LFW, CFP-FP and AgeDB-30: each measured by itself, by its name."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from lossbench.data.pairs import PairSet, read_pairs
from lossbench.data.tree import OPEN
from lossbench.errors import InputError
from lossbench.evaluation.models import Model, Progress, silent, whole
from lossbench.metrics import pair_scores
from lossbench.utils.files import is_file, is_folder
from lossbench.utils.text import shown


@dataclass(frozen=True)
class PairList:
    """Verification pairs and what their list is called."""

    name: str
    pairs: PairSet


def read_pair_lists(paths: Sequence[Path], data: Path | None) -> tuple[PairList, ...]:
    """Read verification lists, each from its own images.

    A list in a tree of its own, beside query/ or distractors/, is of the people there; one beside the folder of its
    first person is of the folders there; any other of the people of `data`.

    Raises:
        InputError: two lists have one name, or as `read_pairs`.
    """
    named: dict[str, Path] = {}
    for path in paths:
        name = name_of(path)
        if name in named:
            raise InputError(
                f"--pairs {shown(named[name])} and --pairs {shown(path)} are both called '{shown(name)}', and would "
                "share a column; rename the folder or the file of one"
            )
        named[name] = path
    several = len(named) > 1
    return tuple(PairList(name, _read(path, data, several=several)) for name, path in named.items())


def _read(path: Path, data: Path | None, *, several: bool) -> PairSet:
    """Read a list; where there are several, whose files are often all called pairs.txt, errors and notes say which."""
    try:
        pairs = read_pairs(path, _tree_of(path, data))
    except InputError as error:
        if not several or shown(path) in str(error):
            raise
        raise InputError(f"--pairs {shown(path)}: {error}") from error
    return replace(pairs, notes=tuple(f"--pairs {shown(path)}: {note}" for note in pairs.notes)) if several else pairs


def name_of(path: Path) -> str:
    """Return what a list is called: its folder, for a file called pairs; else its file, without the suffix.

    Example:
        >>> name_of(Path("bins/cfp_fp")), name_of(Path("lfw/pairs.txt")), name_of(Path("lists/agedb_30.txt"))
        ('cfp_fp', 'lfw', 'agedb_30')
    """
    whole_path = path if path.name not in ("", "..") else path.resolve()
    if is_folder(path):
        return whole_path.name
    return whole_path.absolute().parent.name if whole_path.stem == "pairs" else whole_path.stem


def _tree_of(path: Path, data: Path | None) -> Path | None:
    """Return the tree that a list is of; None where it is of the folders beside it."""
    beside = path.parent
    if any(is_folder(beside / part) for part in OPEN):
        return beside
    return None if (person := _first_person(path)) and is_folder(beside / person) else data


def _first_person(path: Path) -> str | None:
    """Return who is named first in a list like LFW's; None where that cannot be seen: `read_pairs` says why."""
    if not is_file(path):
        return None
    try:
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            lines = [file.readline(1000) for _ in range(2)]
    except OSError:
        return None
    person = lines[1].split("\t" if "\t" in lines[1] else None, 1)[:1]
    return person[0] if person and "/" not in person[0] and person[0] not in (".", "..") else None


def pair_values(model: Model, pairs: PairSet, *, flip: bool, on_progress: Progress = silent) -> dict[str, Any]:
    """Return what the verification protocol is computed from: ``pair_scores``, ``pair_same``, ``pair_folds``, [P].

    Args:
        model: embeds the images of the pairs.
        pairs: the pairs.
        flip: add the embedding of the mirrored image, as InsightFace does.
        on_progress: called while images are decoded for the first time.
    """
    (embeddings,) = model.embed(pairs.files, [whole(pairs.files)], flip=flip, on_progress=on_progress)
    scores = pair_scores(embeddings[list(pairs.a)], embeddings[list(pairs.b)])
    return {"pair_scores": scores, "pair_same": torch.tensor(pairs.same), "pair_folds": torch.tensor(pairs.folds)}


def standard_deviation(figures: Mapping[str, Any]) -> float:
    """Return the standard deviation of a list's folds, which papers give beside the accuracy, from its figures.

    Example:
        >>> standard_deviation({"verification_standard_error": 0.01, "verification_folds": 4})
        0.02
    """
    return float(figures["verification_standard_error"] * math.sqrt(figures["verification_folds"]))
