"""The runs that this process does, one at a time, while other processes may work on the same folder.

A run is claimed before it is touched, and its record is read again under the claim: the first process to claim it
does it, and no other.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from lossbench.benchmark.execute import can_go_on, device_is_lost, execute
from lossbench.benchmark.inputs import Inputs, Pixels, open_pixels
from lossbench.benchmark.listener import Listener
from lossbench.benchmark.locks import claimed, is_held, silence
from lossbench.benchmark.plan import Again, Run
from lossbench.errors import InputError
from lossbench.results.store import Record, read_record
from lossbench.training.checkpoint import drop_checkpoints
from lossbench.utils import claims
from lossbench.utils.claims import ClaimLost

PAUSE, LONGEST_PAUSE = 0.2, 2.0  # seconds between two attempts to claim a run that another process holds


class Done(NamedTuple):
    """The record of a complete run, and whether another process wrote it."""

    record: Record
    elsewhere: bool


def attempt(
    inputs: Inputs,
    pixels: Pixels,
    run: Run,
    listener: Listener,
    *,
    on_begin: Callable[[Run], None] = lambda run: None,
) -> Done | None:
    """Do a run, or find it done by another process; None while another live process holds it, or has taken it over.

    `on_begin` is called with the run before this process does it.

    Raises:
        InputError: the run's folder cannot be written, or its record is damaged.
    """
    try:
        if record := made_meanwhile(run).record:
            return Done(record, True)
        with claimed(run.folder) as mine:
            if not mine:
                return None
            run = made_meanwhile(run)
            if run.record:
                return Done(run.record, True)
            on_begin(run)
            return Done(execute(inputs, pixels, run, listener), False)
    except ClaimLost as lost:
        listener.note(f"{run.entrant}, repeat {run.repeat + 1}, is left to another process: {lost}")
        return None
    except OSError as error:
        raise InputError(f"{run.folder} cannot be claimed ({error.strerror or error}); choose another --out") from error


def tidy(run: Run) -> None:
    """Drop the checkpoint of a complete run that will not be resumed: its process was killed after writing the record.

    Raises:
        OSError: the folder cannot be written.
    """
    checkpoint = run.folder / "checkpoint.pt"
    if run.record is not None and not can_go_on(run.record) and checkpoint.exists():
        with claimed(run.folder) as mine:
            if mine and read_record(run.folder) is not None:
                drop_checkpoints(run.folder)


def made_meanwhile(run: Run) -> Run:
    """Return a claimed run, with its record if another process has finished it since it was planned.

    Raises:
        InputError: that process measures it differently; the two would undo each other's work.
    """
    found = read_record(run.folder)
    if found is None or found == run.replaces:
        return run
    if found.get("measuring") != run.measuring:
        raise InputError(
            f"another process measures the runs in {run.folder.parent.parent} differently (other --pairs or --flip, or "
            "another version of lossbench); give one of the two commands its own --name"
        )
    return replace(run, record=found)


def in_turn(inputs: Inputs, todo: Sequence[Run], listener: Listener) -> dict[str, Record]:
    """Do the runs in this process, wait for those that other processes hold, and return all records by hash.

    Returns early, without the remaining runs, if a run has made the device unusable for this process.

    Raises:
        InputError: as `attempt`.
    """
    made: dict[str, Record] = {}
    queue = Queue(todo, listener)
    pixels = open_pixels(inputs, listener) if todo else None
    while queue and pixels is not None:
        run = queue.take()
        if run is None:
            queue.say_waiting()
            time.sleep(PAUSE)
        elif done := attempt(inputs, pixels, run, listener):
            made[run.hash] = tell(listener, run, done)
            if done.record["status"] == "failed" and device_is_lost(inputs.device):
                break
        else:
            queue.postpone(run)
    return made


def one_of(inputs: Inputs, todo: Sequence[Run], listener: Listener) -> Record | None:
    """Do one run that is free and return its record with its folder; None if other processes hold or have done all.

    Runs that nobody has begun come first, so that one that kills its process does not keep the others from being done.
    Where only runs of other processes are left, and some have been silent for long, those are watched until they are
    taken over or renewed; for twice that time at most, because the clocks that tell the silence may differ.

    Raises:
        InputError: as `attempt`.
    """
    left = sorted(todo, key=lambda run: is_held(run.folder))
    pixels = open_pixels(inputs, listener)
    epochs = inputs.config.epochs
    assert epochs is not None

    def on_begin(run: Run) -> None:
        if run.spec is not None and run.again is not Again.measured:
            listener.start(1, 0, epochs)

    watching: float | None = None  # since when
    pause = PAUSE
    while left:
        for run in list(left):
            if (done := attempt(inputs, pixels, run, listener, on_begin=on_begin)) is not None:
                left.remove(run)
                record = tell(listener, run, done)
                if not done.elsewhere:
                    return {**record, "folder": str(run.folder)}
        now = time.monotonic()
        if now - (watching or now) > 2 * claims.STALE or not any(silence(r.folder) > claims.STALE for r in left):
            break
        if watching is None:
            watching = now
            listener.note(
                f"a process has been silent for {claims.STALE:.0f} s; "
                "watching it for as long before its run is taken over"
            )
        time.sleep(pause)
        pause = min(1.5 * pause, LONGEST_PAUSE)
    if left:
        listener.note(f"no run is free: {_trained_by_others(len(left))}")
    return None


def _trained_by_others(count: int) -> str:
    return f"{count} run{'s are' if count > 1 else ' is'} being trained by other processes"


def tell(listener: Listener, run: Run, done: Done) -> Record:
    """Report a complete run to the listener, and return its record."""
    listener.finished(replace(run, record=done.record) if done.elsewhere else run, done.record)
    return done.record


class Queue:
    """Runs to do, in order. A run that another process holds is put back and retried after a pause."""

    def __init__(self, runs: Sequence[Run], listener: Listener):
        self.runs = deque((0.0, run) for run in runs)
        self.listener, self.said = listener, False
        self.pauses: dict[str, float] = {}  # by the run's hash

    def __len__(self) -> int:
        return len(self.runs)

    def take(self) -> Run | None:
        """Return the next run that is due, or None."""
        now = time.monotonic()
        for i, (due, run) in enumerate(self.runs):
            if due <= now:
                del self.runs[i]
                return run
        return None

    def postpone(self, run: Run) -> None:
        """Put back a run that another process holds."""
        pause = self.pauses.get(run.hash, PAUSE)
        self.pauses[run.hash] = min(1.5 * pause, LONGEST_PAUSE)
        self.runs.append((time.monotonic() + pause, run))

    def say_waiting(self) -> None:
        """Note, once, that only runs of other processes are left."""
        if self.runs and not self.said:
            self.said = True
            self.listener.note(f"{_trained_by_others(len(self.runs))}; waiting for them")
