"""What surrounds a capture, without CUDA: that errors are reported and everything is put back. tests/gpu captures."""

import contextlib

import pytest
import torch

from lossbench.training import graph
from lossbench.training.graph import CudaRecorder


@pytest.fixture
def recorder(monkeypatch):
    """A recorder on a machine that only looks as if it had CUDA: modes and generators are noted, work just runs."""
    made = CudaRecorder(torch.device("cuda"))
    made.modes, made.states, made.pools = [0], [], []

    class Generator:
        def clone_state(self):
            return "a new state"

        def graphsafe_set_state(self, state):
            made.states.append(state)

    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: made.modes[-1])
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", made.modes.append)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: (0, 1))
    made.streams = []
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: made.streams.append(device) or f"stream {device}")
    graph._side_stream.cache_clear()
    for name in ("_cuda_endAllocateToPool", "_cuda_releasePool"):
        call = lambda device, pool, name=name: made.pools.append((name, device, pool))  # noqa: E731
        monkeypatch.setattr(torch._C, name, call, raising=False)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "default_generators", (Generator(),))
    monkeypatch.setattr(made, "warm", lambda work: work())
    yield made
    graph._side_stream.cache_clear()


def test_to_make_one_does_not_touch_the_device():
    CudaRecorder(torch.device("cuda"))
    assert not torch.cuda.is_initialized()


def test_work_that_waits_is_refused_with_its_reason_and_the_mode_is_put_back(recorder):
    def work():
        assert recorder.modes[-1] == "error"
        raise RuntimeError("called a synchronizing CUDA operation")

    assert "called a synchronizing CUDA operation" in recorder.refusal(work)
    assert recorder.modes == [0, "error", 0]
    assert recorder.refusal(lambda: None) == ""
    assert recorder.modes[-1] == 0


def test_a_failed_capture_raises_and_leaves_neither_generator_nor_allocator_in_it(recorder, monkeypatch):
    def captured(work, pool, stream):
        assert stream == "stream 0"
        work()
        return work

    def broken():
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(graph, "_captured", captured)
    done = []
    assert recorder.record(lambda: done.append(1), lambda: done.append(2))
    assert done == [1, 2]
    assert (recorder.states, recorder.pools) == ([], [])
    with pytest.raises(RuntimeError, match="not permitted"):
        recorder.record(lambda: None, broken)
    assert recorder.states == ["a new state"]
    assert recorder.pools == [("_cuda_endAllocateToPool", 0, (0, 1)), ("_cuda_releasePool", 0, (0, 1))]
    assert recorder.streams == [0]
    assert recorder.record(lambda: done.append(3))
    assert recorder.streams == [0, 0], "the broken one is not used again"


def test_an_allocator_that_has_left_the_capture_by_itself_is_left_alone(recorder, monkeypatch):
    def ended(device, pool):
        raise RuntimeError("endAllocatePool: not currently recording to mempool_id")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", ended, raising=False)
    monkeypatch.setattr(graph, "_captured", lambda work, pool, stream: work())
    with pytest.raises(ZeroDivisionError):
        recorder.record(lambda: 1 / 0)
    assert recorder.pools == []


def test_all_work_of_a_device_runs_on_one_side_stream(recorder):
    """Each further one would keep a workspace of cuBLAS for good."""
    for device in (0, 0, 1, 0):
        graph._side_stream(device)
    assert recorder.streams == [0, 1]
