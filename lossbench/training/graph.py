"""CUDA graphs: work that is launched once, recorded, and then replayed without its many launches."""

import gc
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Protocol

import torch

from lossbench.utils.text import described

Work = Callable[[], object]


class Recorder(Protocol):
    """What records work to be replayed; a test of the CPU has its own."""

    def warm(self, work: Work) -> None:
        """Do `work` as it will be recorded: on a stream of its own."""

    def refusal(self, work: Work) -> str:
        """Do `work` and return why it cannot be recorded, or an empty text: it waits for the device."""

    def record(self, *works: Work) -> tuple[Work, ...]:
        """Return what does each of `works` again on the same tensors, in this order.

        Raises:
            Exception: one of them cannot be recorded; what it raises is its own.
        """

    def release(self) -> None:
        """Give up the memory that `warm` and `refusal` have left, where nothing has been recorded."""


class CudaRecorder:
    """Records in CUDA graphs. Every replay reads and writes the very tensors that the recording did.

    All of it runs on one side stream of the process: for each stream that multiplies matrices cuBLAS keeps a workspace
    of 32 MiB for good, which a capture must find there, or it would lie in the graph's own memory and hold it.
    """

    def __init__(self, device: torch.device):
        self.device = device

    def warm(self, work: Work) -> None:
        """Do `work` on a side stream, as torch asks of what is captured afterwards."""
        with torch.cuda.device(self.device):
            stream = _side_stream(torch.cuda.current_device())
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                work()
            torch.cuda.current_stream().wait_stream(stream)

    def refusal(self, work: Work) -> str:
        """Let torch raise where `work` would wait for the device, without doing so.

        A capture that fails instead leaves torch's allocator and random generator in the middle of it.
        """
        before = torch.cuda.get_sync_debug_mode()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that this mode is a prototype
                torch.cuda.set_sync_debug_mode("error")
            self.warm(work)
        except Exception as error:  # it has worked before: whatever it raises now comes of the mode
            return described(error)
        finally:
            torch.cuda.set_sync_debug_mode(before)
        return ""

    def record(self, *works: Work) -> tuple[Work, ...]:
        """Capture each of `works` in a graph. All share one memory pool, and must be replayed in this order."""
        gc.collect()  # tensors in dead cycles would hold memory beside the graph's
        pool = torch.cuda.graph_pool_handle()
        with torch.cuda.device(self.device):
            index = torch.cuda.current_device()
            try:
                return tuple(_captured(work, pool, _side_stream(index)) for work in works)
            except Exception:
                _abandon(pool, index)
                raise

    def release(self) -> None:
        """Hand back memory that was used on the side stream alone, for others on this GPU."""
        torch.cuda.empty_cache()


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    stream: torch.cuda.Stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    return stream


def _captured(work: Work, pool: "torch.cuda._POOL_HANDLE", stream: torch.cuda.Stream) -> Work:
    graph = torch.cuda.CUDAGraph()
    # What other threads do on the device meanwhile is no fault of this capture. The outer context leaves the capturing
    # stream where a failing capture does not.
    capture = torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local")
    with torch.cuda.stream(torch.cuda.current_stream()), capture:
        work()
    return graph.replay


def _abandon(pool: "torch.cuda._POOL_HANDLE", device: int) -> None:
    """Take the default generator and the allocator out of a capture that broke off, which torch leaves them in.

    The next draws are the same. While the allocator takes a capture to be under way it hands no memory back, not even
    where a later step runs short of it. The stream may still be in the capture; the next work gets another one.
    """
    _side_stream.cache_clear()
    generator = torch.cuda.default_generators[device]
    generator.graphsafe_set_state(generator.clone_state())
    names = "_cuda_endAllocateToPool", "_cuda_endAllocateCurrentStreamToPool"  # the second in older torch
    end = next(getattr(torch._C, name) for name in names if hasattr(torch._C, name))
    with suppress(RuntimeError):  # the capture has ended properly after all
        end(device, pool)
        torch._C._cuda_releasePool(device, pool)
