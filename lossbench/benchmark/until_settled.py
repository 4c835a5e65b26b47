"""Adds repeats until every pair of losses is settled, or until adding more is of no use or beyond the budget."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from lossbench.benchmark.listener import Listener
from lossbench.benchmark.locks import one_at_a_time
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.results.looks import Looks, Plan, begun, read_looks, write_looks
from lossbench.results.metric_fields import metric
from lossbench.results.settling import figures_to_settle, look, progress_text, why_stop
from lossbench.results.store import Record
from lossbench.results.study import Study
from lossbench.utils.text import listed

#: Does all runs of so many repeats, given the hashes of those that this command has done, and returns their records.
Rounds = Callable[[int, set[str]], list[Record]]


def until_settled(config: Config, folder: Path, listener: Listener, do_repeats: Rounds, *, anew: bool) -> list[Record]:
    """Add repeats, one after another, and look at the verdicts after each; return the records of all.

    The looks are stored in the benchmark's folder. A command that continues, or works beside another on the same
    folder, does not repeat looks that have been taken.

    Args:
        config: resolved settings.
        folder: of the benchmark.
        listener: receives the progress.
        do_repeats: see `Rounds`.
        anew: forget looks that were taken before: the runs are trained anew.

    Raises:
        InputError: the stored looks are damaged, or another command takes others in the same folder.
    """
    earlier = read_looks(folder)
    if anew and earlier is not None:
        with _locked(folder):
            write_looks(folder, begun(earlier.plan, earlier.figures, earlier.left_out, earlier))
    assert config.repeats is not None
    assert config.max_repeats is not None
    clock, records = _Clock(config.max_minutes), list[Record]()
    looks: Looks | None = None
    repeats = min(max(2, config.repeats), config.max_repeats)
    while True:
        listener.look(1 + sum(one.repeats < repeats for one in (looks.taken if looks else ())), config.max_repeats)
        records = do_repeats(repeats, {record["hash"] for record in records})
        clock.round_done(repeats)
        study = Study.of(records)
        first = looks is None
        looks = _looked(folder, config, study, looks)
        if first and looks.left_out:
            titles = listed([metric(key).title for key in looks.left_out])
            listener.note(f"not to be settled, because the data does not support it: {titles}")
        if looks.repeats > repeats:  # an earlier command has come so far, or one beside this
            repeats = looks.repeats
            continue
        listener.note(progress_text(looks, study))
        if sentence := why_stop(looks, study, clock.text()):
            _store_end(folder, looks, sentence)
            return records
        repeats += 1


def _looked(folder: Path, config: Config, study: Study, ours: Looks | None) -> Looks:
    """Take the next look, or return the looks of a process that has taken it already; all under one lock."""
    assert config.max_repeats is not None
    plan = Plan.of(study.records, config.max_repeats, config.smallest_difference)
    with _locked(folder):
        stored = read_looks(folder)
        if ours is not None and stored is not None and stored.plan != plan:
            raise InputError(
                f"another command takes other looks in {folder} (other --losses, --fpr, --max-repeats, "
                "--smallest-difference or training); give one of the two its own --name"
            )
        looks = stored or ours
        if looks is None or looks.plan != plan:
            looks = begun(plan, *figures_to_settle(study), looks)
        taken = look(looks, study)
        if taken != stored:
            write_looks(folder, taken)
        return taken


def _store_end(folder: Path, looks: Looks, sentence: str) -> None:
    """Store the sentence that the command ends in, unless another process has looked again since."""
    with _locked(folder):
        if read_looks(folder) in (None, looks):
            write_looks(folder, replace(looks, ended=sentence))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        with one_at_a_time(folder):
            yield
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error}); choose another --out") from error


class _Clock:
    """Says when another round would exceed the budget of minutes: one is expected to take as long as the longest."""

    def __init__(self, minutes: float | None):
        self.minutes, self.started = minutes, time.monotonic()
        self.last, self.repeats, self.longest = self.started, 0, 0.0  # seconds; a repeat's in `longest`

    def round_done(self, repeats: int) -> None:
        """Note the end of a round: so many repeats are there."""
        now = time.monotonic()
        self.longest = max(self.longest, (now - self.last) / max(1, repeats - self.repeats))
        self.last, self.repeats = now, repeats

    def text(self) -> str:
        """Return why time is up; nothing while another round fits."""
        if self.minutes is None or self.last - self.started + self.longest <= 60 * self.minutes:
            return ""
        spent = (self.last - self.started) / 60
        return f"and {spent:.3g} minutes, because another repeat would exceed the {self.minutes:g} of --max-minutes"
