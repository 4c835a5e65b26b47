"""The only module that prints: progress, tables, errors. Plain lines when the output is not a terminal."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from lossbench.bench import Run
    from lossbench.results import Record
    from lossbench.train import Epoch

_WIDE = 200  # columns when nobody's terminal sets a width: tables in files and pipes are not cut


def _console(stderr: bool = False) -> Console:
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_WIDE)


def error(message: str) -> None:
    """Print one line to standard error."""
    line = " ".join(message.split())
    _console(stderr=True).print(f"[bold red]error:[/] {escape(line)}", soft_wrap=True)


def say(message: str) -> None:
    """Print one line."""
    _console().print(escape(message), soft_wrap=True)


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", right_from: int = 1) -> None:
    """Print a table; columns from `right_from` on are right-aligned."""
    shown = Table(title=title or None, title_justify="left", header_style="bold")
    for i, header in enumerate(headers):
        shown.add_column(escape(header), justify="right" if i >= right_from else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row))
    _console().print(shown)


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far a count is: a bar on a terminal, else a line per quarter. Yields what is called with done, total."""
    console = _console()
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(what), total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if not console.is_terminal and done * 4 // total > (done - 1) * 4 // total:
                console.print(escape(f"{what}: {done:,} of {total:,}"), soft_wrap=True)

        yield advance


class BenchProgress(AbstractContextManager["BenchProgress"]):
    """Shows a benchmark as it goes: entrant, repeat, epoch, images/s, time left. Hears it as `bench.Listener`."""

    def __init__(self, repeats: int) -> None:
        self.console = _console()
        self.repeats = repeats
        self.total = self.done = self.runs = self.runs_done = self.epochs = 0
        self.started = time.monotonic()
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.task: TaskID | None = None

    def __enter__(self) -> "BenchProgress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def decoding(self, done: int, total: int) -> None:
        """Show how far the image store is."""
        self._advance("decoding images", done, total, "")
        if done == total:
            self._line(f"decoded {total} images into the cache")

    def start(self, runs: int, skipped: int, epochs: int) -> None:
        """Show what is to be done."""
        self.runs, self.epochs, self.total = runs, epochs, runs * epochs
        self.started = time.monotonic()
        if skipped:
            self._line(f"{skipped} runs are finished already and are not trained again")
        if runs:
            self._line(f"training {runs} runs of {epochs} epochs")

    def epoch(self, run: "Run", epoch: "Epoch") -> None:
        """Show one epoch; without a terminal, about four lines a run."""
        self.done += 1
        rate = epoch.images / epoch.seconds
        where = f"{run.entrant} · repeat {run.repeat + 1}/{self.repeats} · epoch {epoch.epoch}/{self.epochs}"
        status = f"{rate:,.0f} images/s · {self._time_left()} left"
        self._advance(where, self.done, self.total, status)
        if not self.console.is_terminal and epoch.epoch % max(1, self.epochs // 4) == 0:
            self._line(f"{where} · loss {epoch.train_loss:.4g} · val accuracy {epoch.val_accuracy:.3f} · {status}")

    def finished(self, run: "Run", record: "Record") -> None:
        """Print a line for a run that was trained now."""
        if run.record is not None or run.spec is None:
            return
        self.runs_done += 1
        self.done = self.runs_done * self.epochs  # a failed run's missing epochs are not waited for
        what = f"{run.entrant} · repeat {run.repeat + 1}/{self.repeats}"
        if record["status"] == "failed":
            self._line(f"{what} FAILED in epoch {record['epoch']}: {record['reason']}")
        else:
            accuracy, seconds = record["metrics"]["test_accuracy"], record["timings"]["seconds"]
            self._line(f"{what} · test accuracy {accuracy:.3f} · {seconds:.1f} s")

    def note(self, text: str) -> None:
        """Print one line that must not pass in silence."""
        self._line(f"note: {text}")

    def _line(self, text: str) -> None:
        self.console.print(escape(text), soft_wrap=True)

    def _advance(self, description: str, done: int, total: int, status: str) -> None:
        fields: dict[str, Any] = {
            "description": escape(description),
            "completed": done,
            "total": total,
            "status": status,
        }
        if self.task is None:
            self.task = self.bar.add_task(escape(description), total=total, status=status)
        self.bar.update(self.task, **fields)

    def _time_left(self) -> str:
        seconds = (time.monotonic() - self.started) / max(1, self.done) * (self.total - self.done)
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
