"""A benchmark's progress: one bar for the epochs of all runs, and a line per run."""

import time
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from lossbench.cli.console import Level, Quarters, level, terminal
from lossbench.errors import NobodyListens
from lossbench.utils.text import shown

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from lossbench.benchmark.plan import Run
    from lossbench.results.history import Epoch
    from lossbench.results.store import Record

_BAR = 65  # columns that the bar and the figures beside it need


class BenchProgress(AbstractContextManager["BenchProgress"]):
    """Implements `benchmark.listener.Listener`: shows entrant, repeat, epoch, images/s and the time left.

    One bar counts the epochs of all runs; the active runs are named beside it. A quiet command shows notes alone,
    a verbose one a line per epoch.
    """

    def __init__(self, repeats: int, *, once: bool = False) -> None:
        """Show the progress of so many repeats; with `once` of one run, which is named if it is the untrained one."""
        self.once = once
        self.console = terminal()
        self.live = self.console.is_terminal and level() > Level.QUIET  # whether a bar is seen
        self.of = f"/{repeats}"
        self.until = ""  # which look the runs are for
        self.runs = self.runs_done = self.epochs = 0
        self.active: dict[str, tuple[str, str]] = {}  # by the run's hash: its position, long and short,
        self.epochs_of: dict[str, int] = {}  # and the number of its finished epochs
        self.earlier = 0  # epochs among them that were trained before this command
        self.started = time.monotonic()
        self.quarters = Quarters()
        self.bar = self._bar()
        self.task: TaskID | None = None

    def _bar(self) -> "Progress":
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=self.console,
            transient=True,
            disable=not self.live,
        )

    def __enter__(self) -> "BenchProgress":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def decoding(self, done: int, total: int) -> None:
        """Show how many images are decoded; without a terminal, a line per quarter."""
        self._advance("decoding images", done, total, "")
        quarter = self.quarters.passed(done, total)
        if done == total:
            self._line(f"decoded {total:,} images into the cache")
        elif quarter and not self.live:
            self._line(f"decoding images: {done:,} of {total:,}")

    def look(self, number: int, most: int) -> None:
        """Name the look that the runs are for in every line."""
        self.of, self.until = f" of at most {most}", f" · look {number}"

    def start(self, runs: int, skipped: int, epochs: int) -> None:
        """Show what is to be done; each round adds its runs to the bar."""
        if not self.runs:
            self.started = time.monotonic()
        self.runs, self.epochs = self.runs + runs, epochs
        if skipped:
            self._line(f"{skipped} run{'s are' if skipped > 1 else ' is'} finished already and not trained again")
        if runs:
            self._line(f"training {runs} run{'s' * (runs > 1)} of {epochs} epoch{'s' * (epochs > 1)}")

    def epoch(self, run: "Run", epoch: "Epoch") -> None:
        """Show one epoch; without a terminal, about four lines per run. Those of before are counted, and not timed."""
        rate = epoch.images / epoch.seconds
        earlier = run.earlier.get(epoch.epoch) == epoch.seconds  # else the run has started over
        self.earlier += earlier
        where = f"{self._name(run)} · epoch {epoch.epoch}/{self.epochs}"
        short = f"{run.entrant} {run.repeat + 1}{self.until or self.of} {epoch.epoch}/{self.epochs}"
        self.active[run.hash] = where, short
        if run.again == "measured" and run.hash not in self.epochs_of:
            self.runs += 1  # it had to be trained after all
        self.epochs_of[run.hash] = epoch.epoch
        status = "" if earlier else f"{rate:,.0f} images/s · {self._time_left()} left"
        self._show(status)
        if earlier:
            if epoch.epoch == max(run.earlier):
                self._line(f"{self._name(run)} · continues after epoch {epoch.epoch}/{self.epochs}")
            return
        due = not self.live and epoch.epoch % max(1, self.epochs // 4) == 0
        if due or level() is Level.VERBOSE:
            self._line(f"{where} · loss {epoch.train_loss:.4g} · val accuracy {epoch.val_accuracy:.3f} · {status}")

    def finished(self, run: "Run", record: "Record") -> None:
        """Print a line for a finished run."""
        self.active.pop(run.hash, None)
        trained = self.epochs_of.pop(run.hash, None) is not None
        if run.spec is None:
            if self.once and run.record is None:
                self._line(f"{self._name(run)} · measured, nothing to train")
            return
        only_measured = run.again == "measured" and not trained
        self.runs_done += not only_measured  # a failed run counts with all its epochs
        what = self._name(run)
        if record["status"] == "failed":
            self._line(f"{what} FAILED in epoch {record['epoch']}: {record['reason']}")
        elif run.record is not None:
            self._line(f"{what} · done by another process")
        else:
            accuracy, seconds = record["metrics"]["test_accuracy"], record["timings"]["seconds"]
            time_taken = "measured again" if only_measured else f"{seconds:.1f} s"
            self._line(f"{what} · test accuracy {accuracy:.3f} · {time_taken}")

    def note(self, text: str) -> None:
        """Print one line that the user must see."""
        self._line(f"note: {text}", Level.QUIET)

    def _name(self, run: "Run") -> str:
        return f"{run.entrant} · repeat {run.repeat + 1}{self.of}{self.until}"

    def _line(self, text: str, least: Level = Level.NORMAL) -> None:
        """Print a line, unless less than `least` is to be printed."""
        if level() < least:
            return
        try:
            self.console.print(shown(text), soft_wrap=True, markup=False)
        except (BrokenPipeError, SystemExit):  # rich turns the first into the second
            raise NobodyListens from None

    def _show(self, status: str) -> None:
        alone = len(self.active) == 1
        where = " · ".join(at_length if alone else short for at_length, short in self.active.values())
        if len(where) > self.console.width - _BAR:
            where = next(iter(self.active.values()))[1] if alone else f"{len(self.active)} runs"
        self._advance(where, *self._done_of(), status)

    def _done_of(self) -> tuple[int, int]:
        return self.runs_done * self.epochs + sum(self.epochs_of.values()), self.runs * self.epochs

    def _advance(self, description: str, done: int, total: int, status: str) -> None:
        fields: dict[str, Any] = {
            "description": shown(description),
            "completed": done,
            "total": total,
            "status": status,
        }
        if self.task is None:
            self.task = self.bar.add_task(shown(description), total=total, status=status)
        self.bar.update(self.task, **fields)

    def _time_left(self) -> str:
        done, total = self._done_of()
        seconds = (time.monotonic() - self.started) / max(1, done - self.earlier) * (total - done)
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
