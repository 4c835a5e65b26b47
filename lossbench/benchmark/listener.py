"""Who hears how a benchmark is going."""

from typing import TYPE_CHECKING, Protocol

from lossbench.results.store import Record

if TYPE_CHECKING:
    from lossbench.results.history import Epoch
from lossbench.benchmark.plan import Run


class Listener(Protocol):
    """Hears how a benchmark goes on; `lossbench.cli.console` shows it."""

    def decoding(self, done: int, total: int) -> None:
        """`done` of `total` images are in the store that is being built."""

    def start(self, runs: int, skipped: int, epochs: int) -> None:
        """`runs` are to be trained for `epochs` each; `skipped` are finished already."""

    def epoch(self, run: Run, epoch: "Epoch") -> None:
        """A run has finished an epoch; with several jobs, runs take turns."""

    def finished(self, run: Run, record: Record) -> None:
        """A run that was to be done is whole: made now, or by another process (then `run.record` is `record`)."""

    def note(self, text: str) -> None:
        """Something that must not pass in silence."""
