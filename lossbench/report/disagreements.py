"""The pairs of images on which the two best losses disagree most: computed always, as a table and as a section."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch

from lossbench.errors import RunDamaged
from lossbench.metrics.disagreement import Disagreement, Kind, disagreements
from lossbench.report.markup import Part
from lossbench.report.standings import by_rate, first_runs, main_point
from lossbench.results.arrays import embeddings_side_by_side, read_arrays
from lossbench.results.metric_fields import at, flat_metrics
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.utils.text import clipped, listed, rate_text

if TYPE_CHECKING:
    import pandas as pd

_SAID = 3  # pairs of a kind in the section; the table has more
_KEPT = 25
_DIGITS = 7  # of a cosine in float32


class Case(NamedTuple):
    """One pair of images: their names, and each loss's cosine."""

    images: tuple[str, str]
    places: tuple[int, int]
    cosines: tuple[float, float]


@dataclass(frozen=True)
class Disagreed:
    """Two losses and the pairs of images that one of them alone accepts, at one false-positive rate in one repeat.

    `split` is the fingerprint of who is where in that repeat, `counts` are the positives and the negatives there are.
    `places` in a case count the query images, `queries` of them, and then the distractors.
    """

    losses: tuple[str, str]
    repeat: int
    split: str
    fpr: float
    thresholds: tuple[float, float]
    counts: tuple[int, int]
    queries: int
    totals: dict[Kind, int]
    cases: dict[Kind, tuple[Case, ...]]

    @property
    def choice(self) -> str:
        """The two losses, the operating point and the repeat, in words."""
        digits = self.digits
        named = [f"{name} (threshold {cut:.{digits}f})" for name, cut in zip(self.losses, self.thresholds, strict=True)]
        return (
            f"{listed(named)} have the highest mean identification rates at FPR {rate_text(self.fpr)}; the pairs "
            f"are those of repeat {self.repeat + 1}"
        )

    @property
    def digits(self) -> int:
        """So many digits show of each pair in the section on which side of the thresholds its cosines lie."""
        found = [telling(case.cosines, self.thresholds, 3) for _, case in self.listed(_SAID)]
        return max(found, default=3)

    def called(self, kind: Kind) -> str:
        """Return a kind of pairs in words."""
        accepts, rejects = self.losses if kind.first_accepts else self.losses[::-1]
        right, people = (accepts, "same person") if kind.same else (rejects, "two people")
        return f"{people}, accepted by {accepts} alone ({right} is right)"

    def listed(self, most: int | None = None) -> list[tuple[Kind, Case]]:
        """Return the pairs kind by kind, the clearest first, up to `most` of each kind."""
        return [(kind, case) for kind, cases in self.cases.items() for case in cases[:most]]


def telling(cosines: Sequence[float], thresholds: Sequence[float], least: int) -> int:
    """Return how many digits tell each cosine from its threshold: at least so many, at most `_DIGITS`.

    Example:
        >>> telling([0.9, 0.999991], [0.8, 0.999987], 3)
        5
    """
    for digits in range(least, _DIGITS):
        if all(f"{c:.{digits}f}" != f"{cut:.{digits}f}" for c, cut in zip(cosines, thresholds, strict=True)):
            return digits
    return _DIGITS


def disagreed(study: Study) -> Disagreed | None:
    """Return where the two best losses disagree; None where there are not two with embeddings of unseen people.

    Raises:
        RunDamaged: a run's embeddings are missing or damaged, or those of two runs are not of the same images.
    """
    fpr = main_point(study)
    runs = dict(first_runs(study.records))
    if fpr is None:
        return None
    chosen = [name for name in by_rate(study, fpr) if name in runs and not math.isnan(_threshold(runs[name], fpr))][:2]
    if len(chosen) < 2:
        return None
    a, b = chosen
    one, two = (runs[name] for name in chosen)
    saved, names = list(embeddings_side_by_side([one, two])), _names(one)
    if names != _names(two):
        raise RunDamaged(f"{one['folder']} and {two['folder']} do not hold embeddings of the same images")
    sides = [(torch.from_numpy(own["query"]), torch.from_numpy(own["distractors"])) for own in saved]
    labels = torch.from_numpy(saved[0]["query_labels"])
    thresholds = _threshold(one, fpr), _threshold(two, fpr)
    found = disagreements(sides[0], sides[1], labels, thresholds, _KEPT)
    return Disagreed(
        losses=(a, b),
        repeat=int(one["repeat"]),
        split=str(one.get("split")),
        fpr=fpr,
        thresholds=thresholds,
        counts=(int(one["metrics"]["positives"]), int(one["metrics"]["negatives"])),
        queries=len(labels),
        totals={kind: own.total for kind, own in found.items()},
        cases={kind: _cases(own, names) for kind, own in found.items()},
    )


def disagreement_table(found: Disagreed | None) -> "pd.DataFrame":
    """Return a row per pair, the clearest of each kind first: up to 25 of each."""
    import pandas as pd

    if found is None:
        return pd.DataFrame()
    rows = []
    for kind, case in found.listed():
        row: dict[str, object] = {"repeat": found.repeat, "fpr": found.fpr, "same_person": kind.same}
        row |= {"image_1": case.images[0], "image_2": case.images[1]}
        sides = zip("ab", found.losses, case.cosines, found.thresholds, (True, False), strict=True)
        for side, name, cosine, cut, is_first in sides:
            row |= {f"loss_{side}": name, f"cosine_{side}": cosine, f"threshold_{side}": cut}
            row[f"accepts_{side}"] = kind.first_accepts == is_first
        rows.append(row)
    return pd.DataFrame(rows)


def disagreements_part(found: Disagreed | None) -> Part | None:
    """Return the section with counts and the clearest pairs by name; None where there is nothing to compare."""
    if found is None:
        return None
    text = (
        f"{found.choice}. {counted(found)}",
        f"A disagreement is clearer the further both cosines lie from their thresholds. The {_SAID} clearest of each "
        f"kind are listed by file name, up to {_KEPT} in tables/disagreements.csv. Check them for wrong labels, "
        "profiles and bad crops.",
    )
    headers = ["pair of images", "files", *(f"cosine of {name}" for name in found.losses)]
    rows = [
        [
            found.called(kind),
            " – ".join(clipped(name) for name in case.images),
            *(f"{c:z.{found.digits}f}" for c in case.cosines),
        ]
        for kind, case in found.listed(_SAID)
    ]
    return Part("Where the two best losses disagree", text, headers, rows)


def counted(found: Disagreed) -> str:
    """Return a sentence on how many pairs each loss alone accepts."""
    a, b = found.losses
    parts = []
    for same, total in zip((True, False), found.counts, strict=True):
        alone = [found.totals[Kind(same, first)] for first in (True, False)]
        what = "pairs of one person" if same else "pairs of two people"
        parts.append(f"of {total:,} {what} {a} alone accepts {alone[0]:,} and {b} alone {alone[1]:,}")
    return f"{parts[0][0].upper()}{parts[0][1:]}; {parts[1]}."


def _threshold(record: Record, fpr: float) -> float:
    return flat_metrics(record).get(at("threshold", fpr), math.nan)


def _names(record: Record) -> list[str]:
    """Return the names of the query images and then of the distractors."""
    keys = ("query", "query_files", "distractors", "distractors_files")
    arrays = read_arrays(record, "embeddings.npz", keys)
    names: list[str] = []
    for part in ("query", "distractors"):
        files = arrays[f"{part}_files"]
        if files.dtype.kind != "U" or files.shape != arrays[part].shape[:1]:
            raise RunDamaged(f"{Path(record['folder']) / 'embeddings.npz'} does not name a run's images")
        names += files.tolist()
    return names


def _cases(own: Disagreement, names: Sequence[str]) -> tuple[Case, ...]:
    parts = (own.rows.tolist(), own.columns.tolist(), own.first.tolist(), own.second.tolist())
    return tuple(Case((names[i], names[j]), (i, j), (x, y)) for i, j, x, y in zip(*parts, strict=True))
