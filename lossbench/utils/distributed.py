"""Several processes that train one model together: what each of them does, and what they tell each other.

On a CPU they speak gloo; on GPUs NCCL, and gloo for whatever lies in the host's memory. A collective may take as long
as it likes: the first process may measure for hours while the others wait. That one has died is noticed otherwise: gloo
loses its connection, and torchrun ends the rest.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lossbench.errors import CONTINUE, InputError, ProcessLost
from lossbench.utils.launch import Launch, launch
from lossbench.utils.text import described

Result = TypeVar("Result")

_PATIENCE = timedelta(days=365)  # of a collective
TOGETHER = 10.0  # seconds within which all processes must fail, if the failure is the loss's own
_ENDED = "another process of this run has ended"
_GRACE = 5.0  # seconds that a stopped process has to end by itself


@dataclass(frozen=True)
class Ranks:
    """The processes that train one model together, as one of them sees them: it is number `rank` of `size`.

    By default a process is alone, and nothing below sends or waits.
    """

    rank: int = 0
    size: int = 1
    store: Any = field(default=None, compare=False, repr=False)  # dist.Store, for what must not wait for a collective

    @property
    def first(self) -> bool:
        """Whether this process writes records, measures and reports."""
        return self.rank == 0

    def share(self, count: int, rank: int | None = None) -> slice:
        """Return which of `count` things in a row are this process's, or another's; shares differ by one at most.

        Example:
            >>> [Ranks(rank, 3).share(8) for rank in range(3)]
            [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
        """
        rank = self.rank if rank is None else rank
        return slice(count * rank // self.size, count * (rank + 1) // self.size)

    def sum_(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its sum over all processes, the same bits in each, and return it."""
        if self.size > 1:
            with self._all_there():
                dist.all_reduce(tensor)
        return tensor

    def max_(self, tensor: Tensor) -> Tensor:
        """Replace `tensor` by its elementwise maximum over all processes, and return it."""
        if self.size > 1:
            with self._all_there():
                dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return tensor

    def wait(self) -> None:
        """Return once all processes have come here."""
        self.sum_(torch.zeros(()))

    def everyones(self, value: int) -> list[int]:
        """Return a number of each process."""
        numbers = torch.zeros(self.size, dtype=torch.int64)
        numbers[self.rank] = value
        return [int(number) for number in self.sum_(numbers)]

    def of_first(self, work: Callable[[], Result]) -> Result:
        """Let the first process work, and return what it found to all.

        Raises:
            Exception: what the first raised. An `InputError` is one in every process, other errors are RuntimeErrors.
        """
        if self.size == 1:
            return work()
        found: list[Any] = [None, None]  # a result, or an error
        if self.first:
            try:
                found[0] = work()
            except Exception as error:
                told = InputError(str(error)) if isinstance(error, InputError) else RuntimeError(described(error))
                self._broadcast([None, told])
                raise
        found = self._broadcast(found)
        if found[1] is not None:
            raise found[1]
        result: Result = found[0]
        return result

    def _broadcast(self, objects: list[Any]) -> list[Any]:
        with self._all_there():
            dist.broadcast_object_list(objects, src=0, device=torch.device("cpu"))
        return objects

    def gathered(self, rows: Tensor, count: int) -> Tensor | None:
        """Return the rows [count, ...] of all processes, of which each holds its `share`, to the first; else None."""
        if self.size == 1:
            return rows
        with self._all_there():
            if not self.first:
                dist.send(rows.contiguous(), 0)
                return None
            every = rows.new_empty(count, *rows.shape[1:])
            every[self.share(count)] = rows
            for rank in range(1, self.size):
                dist.recv(every[self.share(count, rank)], rank)
            return every

    @contextmanager
    def together(self, what: str) -> Iterator[None]:
        """Let an error out of this context only where every process has one, as when a loss is at fault.

        Args:
            what: is done here; a name that occurs once.

        Raises:
            ProcessLost: this process alone has failed, or another one has ended.
            Exception: what was raised here, and in all others at the same point.
        """
        try:
            yield
        except ProcessLost:
            raise
        except (Exception, SystemExit) as error:
            if self.size > 1:
                self._refuse_alone(error, f"failed/{what}")
            raise

    @contextmanager
    def _all_there(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if _connection_lost(error):
                raise self._lost(_ENDED) from error
            raise

    def _refuse_alone(self, error: BaseException, key: str) -> None:
        if _connection_lost(error):
            raise self._lost(_ENDED) from error
        with suppress(dist.DistError, RuntimeError):  # the store is gone with torchrun
            deadline = time.monotonic() + TOGETHER
            count = self.store.add(key, 1)
            while count < self.size and time.monotonic() < deadline:
                time.sleep(0.05)
                count = self.store.add(key, 0)
            if count >= self.size:
                return
        raise self._lost(f"process {self.rank + 1} of {self.size} failed alone: {described(error)[:300]}") from error

    def _lost(self, reason: str) -> ProcessLost:
        """Return the error that ends this process; the first to ask the store is the one that says so."""
        said = False
        with suppress(dist.DistError, RuntimeError):
            said = self.store.add("said", 1) > 1
        return ProcessLost(f"{reason}; {CONTINUE}", said=said)


ALONE = Ranks()


def _connection_lost(error: BaseException) -> bool:
    text = str(error)
    return isinstance(error, dist.DistError) or "gloo" in text or "Connection closed" in text


def device_of_rank(device: torch.device, place: Launch) -> torch.device:
    """Return this process's own device of that kind.

    Raises:
        InputError: one GPU is named for all.
        ProcessLost: there are more processes on this machine than GPUs.
    """
    if device.type != "cuda" or place.size == 1:
        return device
    if device.index is not None:
        raise InputError(f"--device {device} is one GPU, and each of {place.size} processes takes its own; use cuda")
    if place.local_rank >= (count := torch.cuda.device_count()):
        raise ProcessLost(  # said by the first of those that have none
            f"torchrun started more processes here than the {count} GPUs of this machine: each takes its own; give "
            f"--nproc-per-node {count}, or --device cpu",
            said=place.local_rank > count,
        )
    return torch.device("cuda", place.local_rank)


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Join the processes that torchrun has started with this one; a process alone just goes ahead.

    Args:
        device: this process's own.
    """
    place = launch()
    if place.size == 1:
        yield ALONE
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    server = dist.TCPStore(  # type: ignore[attr-defined]
        os.environ["MASTER_ADDR"],
        int(os.environ["MASTER_PORT"]),
        is_master=place.rank == 0 and not agent,
        wait_for_workers=False,
    )
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"lossbench/{attempt}", server)  # type: ignore[attr-defined]
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    of_group = dist.PrefixStore("group", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=of_group, rank=place.rank, world_size=place.size, timeout=_PATIENCE)
    _end_when_told()
    try:
        yield Ranks(place.rank, place.size, store)
    finally:
        if dist.is_initialized():
            with suppress(RuntimeError):  # a peer is gone
                dist.destroy_process_group()


def _end_when_told() -> None:
    """End within seconds of Ctrl-C or SIGTERM: Python's own handler waits for a collective, which may never end."""
    if threading.current_thread() is not threading.main_thread():
        return
    read, write = os.pipe()
    os.set_blocking(write, False)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_wait_for_end, args=(read,), daemon=True).start()


def _wait_for_end(read: int) -> None:
    while (number := os.read(read, 1)[0]) not in (signal.SIGINT, signal.SIGTERM):
        pass
    time.sleep(_GRACE)
    os._exit(128 + number)
