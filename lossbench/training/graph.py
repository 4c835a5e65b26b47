"""CUDA graphs: work that is launched once, recorded, and then replayed without its many launches."""

import gc
import warnings
from collections.abc import Callable
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


class CudaRecorder:
    """Records in CUDA graphs. Every replay reads and writes the very tensors that the recording did."""

    def __init__(self, device: torch.device):
        self.device = device

    def warm(self, work: Work) -> None:
        """Do `work` on a side stream, as torch asks of what is captured afterwards."""
        with torch.cuda.device(self.device):
            stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
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
        try:
            with torch.cuda.device(self.device):
                stream: torch.cuda.Stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
                return tuple(_captured(work, pool, stream) for work in works)
        except Exception:
            self._free_generator()
            raise

    def _free_generator(self) -> None:
        """Give the default generator a state that is not part of the failed capture; the next draws are the same."""
        with torch.cuda.device(self.device):
            generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())


def _captured(work: Work, pool: "torch.cuda._POOL_HANDLE", stream: torch.cuda.Stream) -> Work:
    graph = torch.cuda.CUDAGraph()
    # The outer context leaves the capturing stream where a failing capture does not.
    with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph, pool, stream):
        work()
    return graph.replay
