"""`--log-to trackio`: a project per benchmark in trackio's local database, a run per entrant and repeat.

It stays on this machine, unless TRACKIO_SPACE_ID or TRACKIO_SERVER_URL names where trackio shall send it.
"""

import contextvars
import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from lossbench.benchmark.loggers.logger import Figures, settings_of
from lossbench.benchmark.plan import Run
from lossbench.results.store import Record
from lossbench.utils.text import file_name

_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")


class Trackio:
    """Writes runs with trackio; watch them with ``trackio show``."""

    def __init__(self, benchmark: str):
        """Write the runs of a benchmark."""
        self.local = not any(map(os.environ.get, _ELSEWHERE))
        if self.local:
            os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import trackio

        self.trackio: Any = trackio
        self.project = file_name(benchmark)
        self.runs: dict[str, Any] = {}  # by the run's hash

    def has(self, run: Run) -> bool:
        """Whether the local database has the run."""
        return bool(self._stored(run))

    def begin(self, run: Run) -> None:
        """Replace the run in the local database; elsewhere it is another one of the same name."""
        with _quiet():
            if (left := self.runs.pop(run.hash, None)) is not None:
                left.finish()
            for old in self._stored(run) if self.local else ():
                old.delete()
            self.runs[run.hash] = contextvars.copy_context().run(  # in its own, or it would end the run before it
                self.trackio.init,
                project=self.project,
                name=run.folder.name,
                group=run.entrant,
                config=settings_of(run),
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )

    def epoch(self, run: Run, number: int, figures: Figures) -> None:
        """Log an epoch as a step."""
        with _quiet():
            self.runs[run.hash].log(dict(figures), step=number)

    def finish(self, run: Run, record: Record, figures: Figures) -> None:
        """Log the final figures at the last step; why a run failed is an alert."""
        of_trackio = self.runs.pop(run.hash)
        with _quiet():
            if figures:
                of_trackio.log(dict(figures), step=record["epoch"])
            if record["status"] == "failed":
                title = f"{run.entrant}, repeat {run.repeat + 1}, has failed"
                of_trackio.alert(title, record["reason"], level=self.trackio.AlertLevel.ERROR)
            of_trackio.finish()

    def close(self) -> None:
        """Finish runs that were interrupted."""
        with _quiet():
            while self.runs:
                self.runs.popitem()[1].finish()

    def _stored(self, run: Run) -> list[Any]:
        try:
            return [one for one in self.trackio.Api().runs(self.project) if one.name == run.folder.name]
        except ValueError:  # no such project yet
            return []


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what trackio prints from the output; it warns of what fails, and that is raised.

    Raises:
        RuntimeError: it has warned; what libraries deprecate, or Python says of its own, is no failure.
    """
    with redirect_stdout(io.StringIO()), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    if failed := [one for one in caught if issubclass(one.category, UserWarning)]:
        raise RuntimeError(str(failed[0].message))
