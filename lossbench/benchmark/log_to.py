"""`--log-to`: a listener that also writes runs to where somebody watches training, for all ways of running them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

from lossbench.benchmark.listener import Listener
from lossbench.benchmark.loggers.logger import Logger, epoch_figures, final_figures
from lossbench.benchmark.loggers.tensorboard import TensorBoard
from lossbench.benchmark.loggers.trackio import Trackio
from lossbench.benchmark.loggers.wandb import Wandb
from lossbench.benchmark.plan import Run
from lossbench.errors import InputError, RunDamaged
from lossbench.results.history import Epoch, read_epochs
from lossbench.results.store import Record
from lossbench.utils.claims import claimed
from lossbench.utils.text import described

_MARKS = ".log-to"  # in a benchmark's folder: a file for each run that a logger has begun and not finished
_T = TypeVar("_T")
#: Given a benchmark's folder and name; each name is also that of its package and of its extra.
_LOGGERS: dict[str, Callable[[Path, str], Logger]] = {
    "tensorboard": lambda folder, benchmark: TensorBoard(folder),
    "wandb": Wandb,
    "trackio": lambda folder, benchmark: Trackio(benchmark),
}


def refuse_missing(names: Iterable[str]) -> None:
    """Refuse loggers whose package is not installed.

    Raises:
        InputError: one is not.
    """
    for name in names:
        if (found := find_spec(name)) is None or found.origin is None:  # a folder of that name, as wandb makes one
            raise InputError(f"--log-to {name} needs the extra [{name}]: pip install 'lossbench[{name}]'")


@contextmanager
def logged(names: Iterable[str], folder: Path, listener: Listener) -> Iterator["LogTo"]:
    """Return a listener that passes everything on to another one, and writes to these loggers until the context ends.

    Args:
        names: of the loggers.
        folder: of the benchmark.
        listener: hears everything.

    Raises:
        InputError: a logger cannot be started, or cannot write where the user wants it to.
    """
    log_to = LogTo(listener, {name: _started(name, folder) for name in dict.fromkeys(names)})
    try:
        yield log_to
    finally:
        log_to.close()


def _started(name: str, folder: Path) -> Logger:
    try:
        return _LOGGERS[name](folder, folder.name)
    except InputError:
        raise
    except Exception as error:  # of a library
        raise InputError(f"--log-to {name} cannot be started ({described(error)}); fix that, or drop it") from error


class LogTo:
    """A `Listener` that also writes runs. A logger that fails is said once, and left out from then on."""

    def __init__(self, listener: Listener, loggers: Mapping[str, Logger]):
        self.listener, self.loggers = listener, dict(loggers)
        self.begun: set[str] = set()  # hashes of runs

    def decoding(self, done: int, total: int) -> None:
        """Pass it on."""
        self.listener.decoding(done, total)

    def look(self, number: int, most: int) -> None:
        """Pass it on."""
        self.listener.look(number, most)

    def start(self, runs: int, skipped: int, epochs: int) -> None:
        """Pass it on."""
        self.listener.start(runs, skipped, epochs)

    def note(self, text: str) -> None:
        """Pass it on."""
        self.listener.note(text)

    def epoch(self, run: Run, epoch: Epoch) -> None:
        """Pass it on and write it. The first epoch of a run is heard again when it resumes, with those that follow."""
        self.listener.epoch(run, epoch)
        if run.hash not in self.begun or epoch.epoch == 1:
            self.begun.add(run.hash)
            self._begin(run)
        self._epoch(run, epoch)

    def finished(self, run: Run, record: Record) -> None:
        """Pass it on and write the final figures; what another process has done is that process's to write."""
        self.listener.finished(run, record)
        if run.record is not None:
            return
        if run.hash in self.begun:
            self._finish(run, record)
        else:  # measured again, or the untrained one
            self._write(run, record, list(self.loggers))
        self.begun.discard(run.hash)

    def catch_up(self, runs: Sequence[Run]) -> None:
        """Write the complete runs among these that were never written, or in part alone.

        One process does it at a time; others that come meanwhile leave it to that one.
        """
        complete = [(run, run.record) for run in runs if run.record is not None]
        if not complete or not self.loggers:
            return
        marks = _mark(complete[0][0], "").parent
        try:
            with claimed(marks / "claims", marks) as mine:
                for run, record in complete if mine else ():
                    self._write(run, record, self._lacking(run))
        except OSError as error:
            self.note(f"complete runs are not logged ({described(error)})")

    def close(self) -> None:
        """Write the rest."""
        self._each(lambda name, logger: logger.close())

    def _write(self, run: Run, record: Record, names: Sequence[str]) -> None:
        """Write a whole run from its files."""
        if not set(names) & self.loggers.keys():
            return
        try:
            epochs = read_epochs({"folder": str(run.folder)})
        except RunDamaged as damaged:
            self.note(f"not logged: {damaged.what}")
            return
        self._begin(run, names)
        for epoch in epochs:
            self._epoch(run, epoch, names)
        self._finish(run, record, names)

    def _begin(self, run: Run, names: Sequence[str] | None = None) -> None:
        def begin(name: str, logger: Logger) -> None:
            mark = _mark(run, name)
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()
            logger.begin(run)

        self._each(begin, names)

    def _finish(self, run: Run, record: Record, names: Sequence[str] | None = None) -> None:
        def finish(name: str, logger: Logger) -> None:
            logger.finish(run, record, final_figures(record))
            _mark(run, name).unlink(missing_ok=True)

        self._each(finish, names)

    def _epoch(self, run: Run, epoch: Epoch, names: Sequence[str] | None = None) -> None:
        figures = epoch_figures(epoch)
        self._each(lambda name, logger: logger.epoch(run, epoch.epoch, figures), names)

    def _lacking(self, run: Run) -> list[str]:
        written = self._each(lambda name, logger: logger.has(run) and not _mark(run, name).exists())
        return [name for name, whole in written.items() if not whole]

    def _each(self, act: Callable[[str, Logger], _T], names: Sequence[str] | None = None) -> dict[str, _T]:
        """Let every logger, or those of these names, do something; returns what it returns by the logger's name."""
        done = {}
        for name in [name for name in self.loggers if names is None or name in names]:
            try:
                done[name] = act(name, self.loggers[name])
            except Exception as error:  # of a library, a network or a disk, none of which may stop a training
                del self.loggers[name]
                self.note(
                    f"--log-to {name} has stopped ({described(error)}); the runs continue without it, and the same "
                    "command, run again, writes them"
                )
        return done


def _mark(run: Run, name: str) -> Path:
    """Return the file that is there while a logger has a part of a run alone."""
    return run.folder.parents[1] / _MARKS / f"{name}-{run.folder.name}"
