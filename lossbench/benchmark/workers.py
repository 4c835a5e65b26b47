"""Several runs at a time, in worker processes that receive one run after another and open the images themselves."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import torch

from lossbench.benchmark.execute import device_is_lost, record_death
from lossbench.benchmark.inputs import Inputs, open_pixels
from lossbench.benchmark.listener import Listener
from lossbench.benchmark.locks import claimed
from lossbench.benchmark.plan import Run
from lossbench.benchmark.queue import PAUSE, Done, Queue, attempt, made_meanwhile, tell
from lossbench.errors import CONTINUE, InputError
from lossbench.results.history import Epoch
from lossbench.results.store import Record
from lossbench.utils.claims import ClaimLost
from lossbench.utils.device import be_deterministic
from lossbench.utils.memory import keep_freed_memory
from lossbench.utils.processes import cores, interrupts_held

_FROM_OUTSIDE = {-signal.SIGTERM, -signal.SIGINT, *([-signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])}
_KILL = getattr(signal, "SIGKILL", signal.SIGTERM)


def in_workers(inputs: Inputs, todo: Sequence[Run], listener: Listener, jobs: int, threads: int) -> dict[str, Record]:
    """Do the runs in `jobs` worker processes of `threads` threads each and return their records by hash.

    A worker that is killed leaves a failed run, and a new worker replaces it.

    Raises:
        InputError: as `attempt`; or workers cannot start, or are stopped from outside.
    """
    made: dict[str, Record] = {}
    queue = Queue(todo, listener)
    workers: list[_Worker] = []
    try:
        while len(made) < len(todo):
            while len(workers) < min(jobs, len(todo) - len(made)):
                workers.append(_start(inputs, jobs, threads))
            for worker in workers:
                if worker.ready and worker.run is None and (run := queue.take()):
                    worker.give(run)
            if all(worker.ready and worker.run is None for worker in workers):
                queue.say_waiting()
            heard = wait([worker.connection for worker in workers], timeout=PAUSE if queue else None)
            for worker in [worker for worker in workers if worker.connection in heard]:
                done = _hear(worker, inputs, queue, listener)
                if done is not None and worker.run is not None:
                    made[worker.run.hash] = tell(listener, worker.run, done)
                    worker.run = None
                if worker.gone:
                    workers.remove(worker)
    finally:
        for worker in workers:
            worker.process.kill()  # what is finished is on disk, and a checkpoint is whole or not there
            worker.process.join()
    return made


@dataclass
class _Worker:
    """A worker process as its parent sees it: its current run, and the epochs that it has reported."""

    process: BaseProcess
    connection: Connection
    ready: bool = False
    gone: bool = False
    run: Run | None = None
    epochs: list[Epoch] = field(default_factory=list)
    since: float = 0.0

    def give(self, run: Run) -> None:
        self.run, self.epochs, self.since = run, [], time.time()
        with suppress(BrokenPipeError):  # it has died, which the loop notices and handles
            self.connection.send(run)


def _start(inputs: Inputs, jobs: int, threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")  # not fork, which torch's threads do not survive
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(inputs, threads, theirs))
    with _environment(jobs, threads), interrupts_held():
        process.start()
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _environment(jobs: int, threads: int) -> Iterator[None]:
    """Set what a new process reads when it imports torch."""
    wanted = {"OMP_NUM_THREADS": str(threads)}
    if jobs * threads > cores():  # waiting threads that spin would take cores from working ones
        wanted["OMP_WAIT_POLICY"] = "passive"
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _hear(worker: _Worker, inputs: Inputs, queue: Queue, listener: Listener) -> Done | None:
    """Handle one message of a worker, or its death; returns the outcome of its run once there is one."""
    try:
        kind, content = worker.connection.recv()
    except (EOFError, OSError):  # OSError where it was killed in the middle of a message
        return _bury(worker, inputs, queue)
    if kind == "stop":
        raise InputError(content)
    if kind == "ready":
        worker.ready = True
    elif kind == "note":
        listener.note(content)
    elif kind == "epoch" and worker.run is not None:
        worker.epochs.append(content)
        listener.epoch(worker.run, content)
    elif kind == "taken" and worker.run is not None:
        queue.postpone(worker.run)
        worker.run = None
    elif kind in ("done", "last"):
        worker.gone = kind == "last"
        return Done(*content)
    return None


def _bury(worker: _Worker, inputs: Inputs, queue: Queue) -> Done | None:
    """Handle a worker's death: its run has failed, unless it was complete or another process holds it already."""
    worker.gone = True
    worker.process.join()
    code = worker.process.exitcode or 0
    how = f"killed by signal {-code}{_name(-code)}" if code < 0 else f"ended with exit code {code}"
    if code in _FROM_OUTSIDE:
        raise InputError(f"a worker process was {how}; {CONTINUE}")
    if not worker.ready:
        raise InputError(
            f"a worker process was {how} while it started: too little memory for so many --jobs, or a script that "
            "calls lossbench without an `if __name__ == '__main__':` guard"
        )
    if worker.run is None:
        return None
    with suppress(ClaimLost), claimed(worker.run.folder) as mine:
        if mine and (found := made_meanwhile(worker.run).record):
            return Done(found, False)
        if mine:
            reason = f"its process was {how}" + ("; out of memory?" if code == -_KILL else "")
            seconds = time.time() - worker.since
            return Done(record_death(inputs, worker.run, reason, worker.epochs, seconds), False)
    queue.postpone(worker.run)
    return None


def _name(number: int) -> str:
    with suppress(ValueError):  # a real-time signal has none
        return f" ({signal.Signals(number).name})"
    return ""


class _Sender:
    """Sends a worker's progress to its parent; without a parent the worker ends."""

    def __init__(self, connection: Connection):
        self.connection = connection

    def send(self, kind: str, content: object = None) -> None:
        try:
            self.connection.send((kind, content))
        except OSError:
            os._exit(1)

    def decoding(self, done: int, total: int) -> None:
        """Send nothing: the parent has decoded everything."""

    def look(self, number: int, most: int) -> None:
        """Send nothing: the parent takes the looks."""

    def start(self, runs: int, skipped: int, epochs: int) -> None:
        """Send nothing: the parent has reported it."""

    def epoch(self, run: Run, epoch: Epoch) -> None:
        self.send("epoch", epoch)

    def finished(self, run: Run, record: Record) -> None:
        """Send nothing: the parent receives the record."""

    def note(self, text: str) -> None:
        self.send("note", text)


def _work(inputs: Inputs, threads: int, connection: Connection) -> None:
    """Do the runs that the parent sends until it has no more or is gone: the main function of a worker process.

    The number of threads is set twice: OpenMP reads the environment, torch takes a call.
    """
    keep_freed_memory()
    _follow_parent()
    torch.set_num_threads(threads)
    be_deterministic(inputs.device)
    parent = _Sender(connection)
    try:
        pixels = open_pixels(inputs, parent)
        parent.send("ready")
        while True:
            done = attempt(inputs, pixels, connection.recv(), parent)
            if done is None:
                parent.send("taken")
            elif done.record["status"] == "failed" and device_is_lost(inputs.device):
                parent.send("last", tuple(done))
                os._exit(0)  # another process can use the device again
            else:
                parent.send("done", tuple(done))
    except InputError as error:
        parent.send("stop", str(error))
    except EOFError:
        os._exit(1)


def _follow_parent() -> None:
    """Ignore Ctrl-C, which the parent handles, and end with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()  # also returns when it was killed
    os._exit(1)
