"""The runs of a benchmark that are under way on a Ray cluster: what they report, and what becomes of those that die."""

import contextvars
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from lossbench.benchmark.engines import ray_bootstrap
from lossbench.benchmark.engines.ray_cluster import pickled, room
from lossbench.benchmark.engines.ray_node import Answer, Task
from lossbench.benchmark.engines.ray_parcels import files_in, receive_run
from lossbench.benchmark.execute import record_death
from lossbench.benchmark.inputs import Inputs
from lossbench.benchmark.listener import Listener
from lossbench.benchmark.locks import claimed, end_of_dead
from lossbench.benchmark.plan import Run
from lossbench.benchmark.queue import Done, Queue, made_meanwhile, tell
from lossbench.benchmark.ranks import Silence
from lossbench.errors import CONTINUE, InputError
from lossbench.results.history import Epoch
from lossbench.results.store import Record
from lossbench.utils.claims import ClaimLost
from lossbench.utils.owner import Owner

RETRIES = 3  # of a run whose process or node has died
_PAUSE = 0.2  # seconds between two looks at what the runs report
_LATE = 60.0  # seconds without any run under way after which that is said
_GRACE = 10.0  # seconds for cancelled runs to leave their folders in order
_AHEAD = 2  # chunks of a run's files that a node holds ready

_DEATHS = (
    "WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError", "OutOfMemoryError", "ObjectLostError",
    "OwnerDiedError", "ReferenceCountingAssertionError", "ObjectFetchTimedOutError", "RaySystemError",
)  # fmt: skip


@dataclass
class Flight:
    """A run on its way: the stream of what its task yields, its process, and the epochs heard."""

    run: Run
    number: int
    stream: Any
    claim: "Held | None"
    epochs: list[Epoch]
    owner: Owner | None = None
    host: str = ""
    left: bool = False  # its process has come to the end of the task, cancelled or not
    since: float = field(default_factory=time.time)


class Held:
    """A claim on a run that this process holds for a task; several at a time, each with a fence of its own."""

    def __init__(self, folder: Path):
        self._context = contextvars.copy_context()
        self._claim: AbstractContextManager[bool] = claimed(folder)
        self.mine = self._context.run(self._claim.__enter__)

    def __call__(self, work: Any, *given: Any) -> Any:
        """Call `work` behind the fence of this claim."""
        return self._context.run(work, *given)

    def end(self) -> None:
        """Give the claim up."""
        self._context.run(self._claim.__exit__, None, None, None)


class Flights:
    """The runs of a benchmark on the cluster: as many at a time as there is room for."""

    def __init__(
        self,
        ray: Any,
        inputs: Inputs,
        desk: Any,
        need: dict[str, float],
        shared: bool,
        limit: int | None,
        digest: str,
        code: Any,
        job: Any,
    ):
        self.ray, self.inputs, self.desk, self.need, self.shared, self.limit = ray, inputs, desk, need, shared, limit
        self.digest, self.code, self.job = digest, code, job
        self.train = _train_on(ray, need)
        self.flights: list[Flight] = []
        self.started, self.said = 0, False
        self.deaths: dict[str, int] = {}  # by the run's hash
        self.epochs: dict[str, list[Epoch]] = {}  # likewise: what was heard before a death is not said again

    def __enter__(self) -> "Flights":
        return self

    def __exit__(self, *_: object) -> None:
        """Cancel what is on its way: its processes leave their folders in order, or are killed."""
        ray, flights = self.ray, self.flights
        for flight in flights:
            with suppress(ray.exceptions.RayError):
                ray.cancel(flight.stream, force=False)
        deadline = time.monotonic() + _GRACE
        with suppress(ray.exceptions.RayError):
            self._hear(Silence())  # which have begun
            while time.monotonic() < deadline and any(flight.owner and not flight.left for flight in flights):
                time.sleep(_PAUSE)
                self._hear(Silence())
        for flight in flights:
            with suppress(ray.exceptions.RayError, ValueError):
                ray.cancel(flight.stream, force=True)
        for flight in flights:
            self._ended_claim(flight)
            if flight.owner and not flight.left and self.shared:  # on another machine, the next command would wait
                with suppress(OSError):
                    end_of_dead(flight.run.folder, flight.owner)
        with suppress(ray.exceptions.RayError):
            ray.kill(self.desk)

    def do(self, todo: Sequence[Run], listener: Listener) -> dict[str, Record]:
        """Do the runs and return their records by hash."""
        made: dict[str, Record] = {}
        queue = Queue(todo, listener)
        while queue or self.flights:
            while len(self.flights) < self._most() and (run := queue.take()):
                done = self._started(run, queue)
                if done is not None:
                    made[run.hash] = tell(listener, run, done)
            if not self.flights:
                queue.say_waiting()
                time.sleep(_PAUSE)
                continue
            streams = [flight.stream for flight in self.flights]
            ready, _ = self.ray.wait(streams, num_returns=1, timeout=_PAUSE)
            self._hear(listener)
            self._say_waiting(listener)
            for flight in [flight for flight in self.flights if flight.stream in ready]:
                done = self._landed(flight, queue, listener)
                self.flights.remove(flight)
                if done is not None:
                    made[flight.run.hash] = tell(listener, flight.run, done)
        return made

    def _say_waiting(self, listener: Listener) -> None:
        """Note, once, that the cluster has not begun any run for long."""
        late = all(not flight.host and time.time() - flight.since > _LATE for flight in self.flights)
        if late and not self.said:
            self.said = True
            listener.note(
                f"no run has begun for {_LATE:.0f} s: the Ray cluster is busy with other work, or still starting"
            )

    def _most(self) -> int:
        places = room(self.ray, self.need)
        return places if self.limit is None else min(places, self.limit)

    def _started(self, run: Run, queue: Queue) -> Done | None:
        """Send a run to the cluster; return its record instead if another process has finished it."""
        claim, files = None, dict[str, bytes]()
        with ExitStack() as kept:
            if not self.shared:
                claim = Held(run.folder)
                kept.callback(claim.end)
                if not claim.mine:
                    queue.postpone(run)
                    return None
                if record := made_meanwhile(run).record:
                    return Done(record, True)
                if run.again or (run.folder / "checkpoint.pt").exists():
                    files = {file.name: file.read_bytes() for file in files_in(run.folder)}
            self.started += 1
            task = self.ray.put(pickled(self.ray, Task(run, self.started, files)))
            stream = self.train.remote(self.digest, self.code, self.job, task)
            self.flights.append(Flight(run, self.started, stream, claim, self.epochs.setdefault(run.hash, [])))
            kept.pop_all()  # from now on the claim ends with the flight
        return None

    def _hear(self, listener: Listener) -> None:
        by_number = {flight.number: flight for flight in self.flights}
        for number, kind, content in self.ray.get(self.desk.heard.remote()):
            flight = by_number.get(number)
            if flight is None:
                continue
            if kind == "left":
                flight.left = True
            elif kind == "begun":
                flight.host, flight.owner = content[0], Owner(**content[1])
            elif kind == "note":
                listener.note(content)
            elif kind == "epoch" and content["epoch"] > (flight.epochs[-1].epoch if flight.epochs else 0):
                flight.epochs.append(Epoch(**content))
                listener.epoch(flight.run, flight.epochs[-1])

    def _landed(self, flight: Flight, queue: Queue, listener: Listener) -> Done | None:
        """Handle the end of a run's task; return the outcome of the run once there is one."""
        try:
            return self._outcome(flight, queue, listener)
        except ClaimLost as lost:
            with suppress(self.ray.exceptions.RayError, ValueError):
                self.ray.cancel(flight.stream, force=True)  # it may wait for its files to be taken
            listener.note(f"{flight.run.entrant}, repeat {flight.run.repeat + 1}, is left to another process: {lost}")
            queue.postpone(flight.run)
            return None

    def _outcome(self, flight: Flight, queue: Queue, listener: Listener) -> Done | None:
        try:
            answer: Answer = self.ray.get(next(flight.stream))
            self._hear(listener)
            if answer.kind == "stop":
                raise InputError(answer.text)
            if answer.kind == "blind":
                raise InputError(
                    f"node {answer.host} has joined the Ray cluster and does not see {self.inputs.folder}; {CONTINUE}"
                )
            if answer.done is None:
                queue.postpone(flight.run)
                return None
            if flight.claim is not None:
                flight.claim(
                    receive_run, flight.run.folder, answer.files, map(self.ray.get, flight.stream), answer.host
                )
            for _ in flight.stream:  # until the task has ended, its folder deleted
                pass
            return answer.done
        except self.ray.exceptions.RayError as error:
            if not _is_death(error):
                raise
            return self._died(flight, error, queue, listener)
        finally:
            self._ended_claim(flight)

    def _died(self, flight: Flight, error: Exception, queue: Queue, listener: Listener) -> Done | None:
        """Put a run back whose process or node has died; record it as failed when that happens too often."""
        run, where = flight.run, flight.host or "a node"
        self.deaths[run.hash] = count = self.deaths.get(run.hash, 0) + 1
        reason = f"its process on {where} died ({type(error).__name__})"
        if flight.owner is not None and flight.claim is None:
            end_of_dead(run.folder, flight.owner)
        if count <= RETRIES:
            how = "continues from its last epoch" if self.shared else "begins again"
            listener.note(f"{run.entrant}, repeat {run.repeat + 1}: {reason}; it {how}, retry {count} of {RETRIES}")
            queue.postpone(run)
            return None
        inputs = replace(self.inputs, device=torch.device("cpu"))  # whose facts can be had here
        record = _death(inputs, run, f"{reason}, {count} times", flight)
        if record is None:
            queue.postpone(run)
        return record

    def _ended_claim(self, flight: Flight) -> None:
        if flight.claim is not None:
            flight.claim.end()
            flight.claim = None


def _train_on(ray: Any, need: dict[str, float]) -> Any:
    """Return the function whose `remote` starts a run."""
    gpus = need.get("GPU", 0)
    return ray.remote(
        num_cpus=need["CPU"],
        num_gpus=gpus,
        max_calls=1 if gpus else 0,  # a process keeps its first GPU, and once that has failed, all further runs fail
        num_returns="streaming",
        max_retries=0,
        _generator_backpressure_num_objects=_AHEAD,
        runtime_env={"env_vars": {"OMP_NUM_THREADS": str(int(need["CPU"])), **_MEMORY}},
    )(ray_bootstrap.train)


def _death(inputs: Inputs, run: Run, reason: str, flight: Flight) -> Done | None:
    """Record a run as failed, under its claim; None while another process holds it."""

    def record() -> Done:
        fresh = made_meanwhile(run)
        if fresh.record:
            return Done(fresh.record, True)
        return Done(record_death(inputs, run, reason, flight.epochs, time.time() - flight.since), False)

    if flight.claim is not None:
        return flight.claim(record)  # type: ignore[no-any-return]  # what `record` returns
    with claimed(run.folder) as mine:
        return record() if mine else None


def _is_death(error: BaseException) -> bool:
    return any(kind.__name__ in _DEATHS for kind in type(error).__mro__)


#: Glibc's settings for keeping freed memory (lossbench.utils.memory), which a process must have before it has threads.
_MEMORY = {"MALLOC_ARENA_MAX": "1", "MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
