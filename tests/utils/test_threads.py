"""Work in several threads: in order, torch's threads divided and given back, errors as they are."""

import threading

import pytest
import torch

from lossbench.utils.threads import Scratch, in_threads, threads_for


@pytest.fixture
def four_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("threads", "own"), [(1, 4), (2, 2), (3, 1), (4, 1), (9, 1)])
def test_results_come_in_order_and_threads_are_divided(four_threads, threads, own):
    together = threading.Barrier(threads, timeout=20)

    def work(item):
        if item < threads:
            together.wait()  # they are all at work at once, or this ends in an error
        return item, torch.get_num_threads()

    assert list(in_threads(work, range(30), threads)) == [(item, own) for item in range(30)]
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_comes_out_and_the_threads_are_given_back(four_threads, threads):
    def work(item):
        if item == 3:
            raise RuntimeError("not enough memory")
        return item

    found = []
    with pytest.raises(RuntimeError, match="not enough memory"):
        found.extend(in_threads(work, range(1000), threads))
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("threads", [1, 2])
def test_a_stop_iteration_in_the_work_is_no_end_of_the_items(four_threads, threads):
    def work(item):
        return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(in_threads(work, range(3), threads))


def test_no_more_is_taken_than_is_worked_on(four_threads):
    taken = []
    results = in_threads(lambda item: item, (taken.append(i) or i for i in range(1000)), 2)
    for _ in range(10):
        next(results)
    assert len(taken) < 20
    results.close()
    assert torch.get_num_threads() == 4


def test_a_processor_works_with_all_threads_and_a_gpu_is_one(four_threads):
    assert threads_for(torch.device("cpu")) == 4
    assert threads_for(torch.device("cuda")) == 1


def test_scratch_memory_serves_again_but_not_two_names_or_threads_at_once():
    scratch, cpu = Scratch(), torch.device("cpu")
    first = scratch("a", 3, 4, dtype=torch.float64, device=cpu).fill_(1)
    other = scratch("b", 3, 4, dtype=torch.float64, device=cpu).fill_(2)
    assert bool((first == 1).all())
    smaller = scratch("a", 2, 5, dtype=torch.int32, device=cpu)
    assert (smaller.shape, smaller.dtype) == ((2, 5), torch.int32)
    assert smaller.data_ptr() == first.data_ptr() != other.data_ptr()
    assert scratch("a", 9, 9, dtype=torch.float64, device=cpu).shape == (9, 9)
    together = threading.Barrier(2, timeout=20)

    def work(item):
        mine = scratch("c", 100, dtype=torch.int64, device=cpu).fill_(item)
        together.wait()
        return mine.tolist()

    assert list(in_threads(work, range(2), 2)) == [[0] * 100, [1] * 100]
