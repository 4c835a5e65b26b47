"""A benchmark's runs as one study: every figure of every entrant, and every difference, with its uncertainty."""

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from lossbench.errors import InputError
from lossbench.losses.plugin import UNTRAINED
from lossbench.metrics import pooling
from lossbench.metrics.uncertainty import Estimate, estimate
from lossbench.results.arrays import read_resamples
from lossbench.results.metric_fields import flat_metrics, fprs_of, metric
from lossbench.results.store import Record

Floats = npt.NDArray[np.float64]


def entrants(records: Iterable[Record]) -> list[str]:
    """Return the entrants in the order they come, `untrained` last: it is what the others are measured against."""
    return sorted(dict.fromkeys(record["entrant"] for record in records), key=lambda name: name == UNTRAINED)


def mean(values: Iterable[float]) -> float:
    """Return the mean of the values that are there, computed as `Estimate.mean`; NaN where none is.

    Not by sum(): from Python 3.12 on it compensates rounding, and a sentence would say 0.901 where a table says 0.902.

    Example:
        >>> mean([0.5, math.nan, 0.75]), mean([])
        (0.625, nan)
    """
    there = [value for value in values if not math.isnan(value)]
    return float(np.mean(there)) if there else math.nan


@dataclass(frozen=True)
class Study:
    """Records, and the resamples of their people by entrant and repeat.

    The spread between repeats is that of all trained entrants together (see `metrics.pooling`). `untrained` shares none
    of what makes it, and keeps its own.
    """

    records: tuple[Record, ...]
    resamples: dict[tuple[str, int], dict[str, Floats]]
    _pooled: dict[str, dict[str, Estimate]] = field(default_factory=dict, compare=False, repr=False)
    _paired: dict[str, dict[tuple[str, str], Estimate]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Study":
        """Read the resamples of every finished run.

        Raises:
            InputError: a run's resamples are missing or damaged, or others than those of the other runs.
        """
        finished = [record for record in records if record["status"] == "finished"]
        resamples = {(r["entrant"], r["repeat"]): read_resamples(r) for r in finished}
        for repeat in {record["repeat"] for record in finished}:  # folds differ: fewer people are drawn more often
            own = [arrays for (_, number), arrays in resamples.items() if number == repeat]
            if len(lengths := {len(array) for arrays in own for array in arrays.values()}) > 1:
                raise InputError(
                    f"runs of repeat {repeat + 1} have {sorted(lengths)} resamples; is one of another benchmark?"
                )
        return cls(tuple(records), resamples)

    @property
    def entrants(self) -> list[str]:
        """The entrants in the order of the records, `untrained` last."""
        return entrants(self.records)

    @property
    def finished(self) -> list[Record]:
        """The records of the runs that finished."""
        return [record for record in self.records if record["status"] == "finished"]

    @property
    def repeats(self) -> int:
        """How many repeats the records are of, finished or not."""
        return len({record["repeat"] for record in self.records})

    @property
    def fprs(self) -> tuple[float, ...]:
        """The operating points: the false-positive rates that all runs were measured at, from the largest down."""
        return fprs_of(self.records)

    def of_entrant(self, entrant: str) -> list[Record]:
        """Return the records of one entrant."""
        return [record for record in self.records if record["entrant"] == entrant]

    def values(self, entrant: str, figure: str) -> dict[int, float]:
        """Return one figure by repeat; NaN for unsupported points, and for failed runs, whatever they measured."""
        return {
            r["repeat"]: flat_metrics(r).get(figure, math.nan) if r["status"] == "finished" else math.nan
            for r in self.of_entrant(entrant)
        }

    def mean(self, entrant: str, figure: str, repeats: Collection[int] | None = None) -> float:
        """Return a figure's mean over the repeats that have it, or over some of them; NaN where none has."""
        values = self.values(entrant, figure)
        return mean(values[r] for r in sorted(values) if repeats is None or r in repeats)

    def estimate(self, entrant: str, figure: str) -> Estimate:
        """Return a figure's mean over repeats and its uncertainty."""
        if entrant == UNTRAINED or entrant not in self.trained:
            return estimate(self.values(entrant, figure), self.draws(entrant, figure), self._people(figure))
        if figure not in self._pooled:
            self._pooled[figure] = pooling.estimates(*self._of_trained(figure))
        return self._pooled[figure][entrant]

    def difference(self, a: str, b: str, figure: str) -> Estimate:
        """Return the paired difference a - b of two trained entrants over the repeats that both finished."""
        if figure not in self._paired:
            self._paired[figure] = pooling.differences(*self._of_trained(figure))
        found = self._paired[figure]
        return found[a, b] if (a, b) in found else found[b, a].reversed

    @property
    def trained(self) -> list[str]:
        """The entrants that were trained: all but `untrained`."""
        return [name for name in self.entrants if name != UNTRAINED]

    def _of_trained(self, figure: str) -> tuple[pooling.Values, pooling.Resamples, int]:
        values = {name: self.values(name, figure) for name in self.trained}
        return values, {name: self.draws(name, figure) for name in values}, self._people(figure)

    def draws(self, entrant: str, figure: str) -> dict[int, Floats]:
        """Return one figure in each resample of the people [B], by repeat; without the runs that do not have it."""
        own = {repeat: arrays for (name, repeat), arrays in self.resamples.items() if name == entrant}
        return {repeat: arrays[figure] for repeat, arrays in own.items() if figure in arrays}

    def _people(self, figure: str) -> int:
        return int(self.records[0]["people"][metric(figure).people])
