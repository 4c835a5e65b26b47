"""What a benchmark reports its progress to."""

from typing import TYPE_CHECKING, Protocol

from lossbench.benchmark.plan import Run
from lossbench.results.store import Record

if TYPE_CHECKING:
    from lossbench.results.history import Epoch


class Listener(Protocol):
    """Receives a benchmark's progress; `lossbench.cli.progress` displays it."""

    def decoding(self, done: int, total: int) -> None:
        """`done` of `total` images have been decoded into the image store."""

    def look(self, number: int, most: int) -> None:
        """The runs that follow are those up to a look at the verdicts; there will be `most` repeats at most."""

    def start(self, runs: int, skipped: int, epochs: int) -> None:
        """`runs` more will be trained for `epochs` each; `skipped` runs are already finished."""

    def epoch(self, run: Run, epoch: "Epoch") -> None:
        """A run has finished an epoch. With several jobs, epochs of different runs interleave."""

    def finished(self, run: Run, record: Record) -> None:
        """A planned run is complete: by this process, or by another one (then `run.record` is `record`)."""

    def note(self, text: str) -> None:
        """One line that the user must see."""
