"""Benchmarks side by side: the losses and figures they share, and each one's own verdicts on these."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

from lossbench.errors import InputError
from lossbench.report.findings import Findings, read_findings
from lossbench.results.metric_fields import Metric, shown_in
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict
from lossbench.utils.text import listed, rate_text

#: What a loss is to another in a benchmark; unknown where they share fewer than two repeats.
State = Literal["ahead", "behind", "equivalent", "open", "unknown"]
#: How the verdicts on a pair differ: one is ahead here and behind there; ahead here and equivalent there; ahead in some
#: and open in others; equivalent in some and open in others; not at all; or they cannot be compared.
Change = Literal["reversed", "ahead or equivalent", "ahead or open", "equivalent or open", "same", "unknown"]


@dataclass(frozen=True)
class Benchmark:
    """One of the benchmarks: what it is called here, what it has found, and its verdicts on what all share."""

    label: str
    findings: Findings
    verdicts: tuple[Verdict, ...]

    @property
    def study(self) -> Study:
        """Its runs."""
        return self.findings.study


@dataclass(frozen=True)
class Pair:
    """Two losses at a figure: the verdict of every benchmark, None where there is none."""

    figure: Metric
    a: str
    b: str
    verdicts: tuple[Verdict | None, ...]

    @property
    def states(self) -> tuple[State, ...]:
        """What `a` is to `b` in every benchmark."""
        return tuple(_state(v, self.a) for v in self.verdicts)

    @property
    def change(self) -> Change:
        """How the verdicts differ."""
        found = set(self.states)
        if "unknown" in found:
            return "unknown"
        if {"ahead", "behind"} <= found:
            return "reversed"
        if len(found) == 1:
            return "same"
        if found == {"equivalent", "open"}:
            return "equivalent or open"
        return "ahead or equivalent" if "equivalent" in found else "ahead or open"

    @property
    def turned(self) -> "Pair":
        """The same pair the other way round."""
        return Pair(self.figure, self.b, self.a, self.verdicts)


@dataclass(frozen=True)
class Comparison:
    """Benchmarks, the losses that were trained in all of them, and the figures that all of them measured."""

    benchmarks: tuple[Benchmark, ...]
    losses: tuple[str, ...]
    figures: tuple[Metric, ...]

    @property
    def labels(self) -> list[str]:
        """What the benchmarks are called."""
        return [one.label for one in self.benchmarks]

    @property
    def everything(self) -> Study:
        """The records of all, for what is asked of records alone."""
        return Study(tuple(record for one in self.benchmarks for record in one.study.records), {})

    @property
    def pairs(self) -> list[Pair]:
        """All pairs of shared losses at the figures of verdicts, operating points first."""
        own = [{(v.figure.key, v.a, v.b): v for v in one.verdicts} for one in self.benchmarks]
        judged = {key for found in own for key, _, _ in found}
        figures = sorted((f for f in self.figures if f.key in judged), key=lambda figure: figure.point is None)
        return [
            Pair(f, a, b, tuple(found.get((f.key, a, b)) or found.get((f.key, b, a)) for found in own))
            for f in figures
            for a, b in combinations(self.losses, 2)
        ]


def read_comparison(folders: Sequence[Path]) -> Comparison:
    """Return what the benchmarks in these folders share.

    Each keeps the verdicts of its own report: they are adjusted for all of its losses, not for the shared ones alone.

    Raises:
        InputError: there are fewer than two, one is named twice, one is no benchmark, or they share nothing.
    """
    if len(folders) < 2:
        given = f"only '{folders[0]}' is named" if folders else "none is named"
        raise InputError(f"--compare takes two benchmarks or more, {given}; such as: --compare results/a results/b")
    places = [folder.resolve() for folder in folders]
    for folder, place in zip(folders, places, strict=True):
        if places.count(place) > 1:
            raise InputError(f"--compare has '{folder}' twice; name different benchmarks")
    return side_by_side(dict(zip(_labels(places), map(read_findings, folders), strict=True)))


def side_by_side(found: Mapping[str, Findings]) -> Comparison:
    """Return what benchmarks share.

    Args:
        found: what each has found, by what it is called.

    Raises:
        InputError: they share no loss or no figure.
    """
    studies = {label: findings.study for label, findings in found.items()}
    first, *others = studies.values()
    losses = tuple(name for name in first.trained if all(name in study.trained for study in others))
    if not losses:
        named = "; ".join(f"{label} has {listed(study.trained)}" for label, study in studies.items())
        raise InputError(f"--compare: {listed(list(studies))} share no loss ({named}); train one of them in all")
    figures = _shared_figures(studies)
    keys, names = {figure.key for figure in figures}, set(losses)
    benchmarks = [
        Benchmark(label, one, tuple(v for v in one.verdicts if v.figure.key in keys and {v.a, v.b} <= names))
        for label, one in found.items()
    ]
    return Comparison(tuple(benchmarks), losses, figures)


def _shared_figures(studies: Mapping[str, Study]) -> tuple[Metric, ...]:
    """Return the headline figures that some loss of every benchmark has.

    Raises:
        InputError: all have identification rates, but none at a rate that all share; or they share no figure.
    """
    own = {label: _measured(study) for label, study in studies.items()}
    rates = {label: [rate_text(f.point) for f in found.values() if f.point is not None] for label, found in own.items()}
    first, *others = own.values()
    shared = tuple(figure for key, figure in first.items() if all(key in found for found in others))
    if all(rates.values()) and not any(figure.point for figure in shared):
        named = "; ".join(f"{label} was measured at {', '.join(at)}" for label, at in rates.items())
        raise InputError(
            f"--compare: no false-positive rate in common ({named}); measure one again at the other's, which trains "
            "nothing: lossbench run --config BENCHMARK.TOML --fpr RATES"
        )
    if not shared:
        raise InputError(f"--compare: {listed(list(own))} have no figure in common; did every run of one fail?")
    return shared


def _measured(study: Study) -> dict[str, Metric]:
    figures = shown_in("headline", fprs=study.fprs)
    return {f.key: f for f in figures if any(study.estimate(name, f.key).count for name in study.trained)}


def _labels(places: Sequence[Path]) -> list[str]:
    """Return the shortest ends of paths that differ."""
    for length in range(1, max(len(place.parts) for place in places) + 1):
        labels = ["/".join(place.parts[-length:]) for place in places]
        if len(set(labels)) == len(labels):
            break
    return labels


def _state(v: Verdict | None, a: str) -> State:
    if v is None or v.difference.count < 2:
        return "unknown"
    if v.ahead:
        return "ahead" if v.ahead == a else "behind"
    return "equivalent" if v.equivalent else "open"
