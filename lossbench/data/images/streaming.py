"""From the packed store to the device: whole, or batch by batch while the device works on the one before."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lossbench.errors import InputError

_BUFFERS = 4  # of a stream: two are being filled, one travels, one is worked on
_SHARE = 0.5  # of a GPU's free memory that images may take: training needs the rest


class StreamedPixels:
    """Pixels [N, H, W, 3] uint8 that stay in a mapped file; batches of them are copied to the device."""

    def __init__(self, mapped: Tensor, device: torch.device):
        self.device, self.shape, self._mapped = device, mapped.shape, mapped

    def __len__(self) -> int:
        return len(self._mapped)

    def batches(self, rows: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images [B, H, W, 3] of each of `rows` ([B] int64, CPU) on the device, valid until the next.

        A thread gathers the next batches into pinned memory, and they travel while the device works.

        Raises:
            IndexError: a row that the store does not have.
        """
        size, coming = max((len(some) for some in rows), default=0), iter(rows)
        make = _CudaBuffer if self.device.type == "cuda" else _Buffer
        buffers = [make(size, self._mapped, self.device) for _ in range(min(_BUFFERS, len(rows)))]
        filling: deque[tuple[_Buffer, Future[None]]] = deque()
        sent: deque[_Buffer] = deque()
        with ThreadPoolExecutor(1) as thread:
            try:
                for buffer, some in zip(buffers, coming, strict=False):
                    filling.append((buffer, thread.submit(buffer.fill, some)))
                while filling or sent:
                    while filling and len(sent) < 2:
                        buffer, filled = filling.popleft()
                        filled.result()
                        buffer.send()
                        sent.append(buffer)
                    buffer = sent.popleft()
                    yield buffer.receive()
                    buffer.release()
                    if (following := next(coming, None)) is not None:
                        filling.append((buffer, thread.submit(buffer.fill, following)))
            finally:
                for buffer in buffers:
                    buffer.close()


class _Buffer:
    """Room for one batch, filled by one thread and read by another."""

    def __init__(self, size: int, mapped: Tensor, device: torch.device):
        self._mapped, self._count = mapped, 0
        self._host = torch.empty(size, *mapped.shape[1:], dtype=torch.uint8, pin_memory=device.type == "cuda")

    def fill(self, rows: Tensor) -> None:
        """Gather rows. This makes no call of CUDA: the other thread may be capturing a step."""
        self._count = len(rows)
        torch.index_select(self._mapped, 0, rows, out=self._host[: len(rows)])

    def send(self) -> None:
        """Start on the way to the device."""

    def receive(self) -> Tensor:
        """Return the batch; what is done with it on the device waits for its arrival."""
        return self._host[: self._count]

    def release(self) -> None:
        """Take back the batch; return when it can be filled again."""

    def close(self) -> None:
        """Return when nothing is under way."""


class _CudaBuffer(_Buffer):
    """A batch in pinned memory and its copy on a GPU, which a stream of its own makes."""

    def __init__(self, size: int, mapped: Tensor, device: torch.device):
        super().__init__(size, mapped, device)
        self._there = torch.empty_like(self._host, device=device, pin_memory=False)
        self._stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._working = torch.cuda.current_stream(device)
        self._stream.wait_stream(self._working)  # the memory may still be in use there

    def send(self) -> None:
        with torch.cuda.stream(self._stream):
            self._there[: self._count].copy_(self._host[: self._count], non_blocking=True)

    def receive(self) -> Tensor:
        self._working.wait_stream(self._stream)
        return self._there[: self._count]

    def release(self) -> None:
        self._stream.synchronize()  # long arrived: the batch after it has been asked for
        self._stream.wait_stream(self._working)  # what was started with this batch comes before the next copy

    def close(self) -> None:
        self._stream.synchronize()


StoredPixels = Tensor | StreamedPixels


def batches_of(pixels: StoredPixels, rows: Sequence[Tensor]) -> Iterator[Tensor]:
    """Yield the images [B, H, W, 3] uint8 of each of `rows` ([B] int64, CPU) on the device, valid until the next."""
    if isinstance(pixels, StreamedPixels):
        yield from pixels.batches(rows)
    elif rows:
        there = torch.cat(list(rows)).to(pixels.device)  # at once: one batch's rows at a time would wait each time
        yield from (pixels.index_select(0, some) for some in torch.split(there, [len(some) for some in rows]))


def place_pixels(stored: npt.NDArray[np.uint8], device: torch.device, place: str) -> StoredPixels:
    """Return a store's pixels [N, H, W, 3] for use on a device.

    On a CPU ``stream`` is the mapped file itself, of which the system keeps in memory what fits; ``resident`` is a copy
    in memory.

    Args:
        stored: the mapped file.
        device: where they are used.
        place: ``resident`` or ``stream``.

    Raises:
        InputError: they do not fit where they should be resident.
    """
    mapped = torch.from_numpy(stored)
    if place == "stream":
        return mapped if device.type == "cpu" else StreamedPixels(mapped, device)
    try:
        return mapped.to(device, copy=True)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        size = f"{stored.nbytes / 2**30:.1f} GiB"
        raise InputError(f"--pixels resident: the images ({size}) do not fit in memory; use --pixels stream") from error


def suitable_place(size: int, device: torch.device, *, sharers: int = 1) -> str:
    """Return where pixels of `size` bytes are best kept: resident on a GPU whose free memory they fit, else streamed.

    Args:
        size: bytes.
        device: where they are used.
        sharers: processes on this device that each keep them.
    """
    if device.type != "cuda":
        return "stream"
    free, _ = torch.cuda.mem_get_info(device)
    return "resident" if size * sharers <= free * _SHARE else "stream"
