import json
import os
import pickle
import subprocess
import sys
import time

import pytest

from lossbench.errors import InputError
from lossbench.utils.processes import in_parallel


@pytest.fixture(scope="module", autouse=True)
def _importable(tmp_path_factory):
    """A module that other processes can import, as they import lossbench."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "parallel_work.py").write_text(
        """
import os, time

def square(item):
    return item * item, os.getpid()

def slow_square(item):
    time.sleep(0.02)
    return square(item)

def printing(item):
    print("a library that prints")
    return item

def picky(item):
    time.sleep(0.02 if item else 0.2)
    if item in (0, 5, 40):
        raise ValueError(f"{item} is bad")
    return item

class Unreadable(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")  # pickled without its arguments: it cannot be read again

def raises_unreadable(parent):
    if os.getpid() != parent:
        raise Unreadable(1, 2)
    time.sleep(0.02)

def returns_unpicklable(parent):
    if os.getpid() != parent:
        return lambda: None
    time.sleep(0.02)

def sleeps(item):
    time.sleep(0.02)

def dies(parent):
    if os.getpid() != parent:
        os._exit(3)
    time.sleep(0.02)
"""
    )
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers):
    from parallel_work import slow_square

    found = list(in_parallel(slow_square, list(range(100)), workers=workers, chunk=3))
    assert [value for value, _ in found] == [item * item for item in range(100)]
    assert os.getpid() in {process for _, process in found}
    assert len({process for _, process in found}) == workers


def test_few_items_start_no_process():
    from parallel_work import square

    assert {process for _, process in in_parallel(square, list(range(1000)))} == {os.getpid()}
    assert list(in_parallel(square, [], workers=2)) == []


def test_large_results_and_items_do_not_jam():
    items = [bytes(300_000)] * 12
    assert list(in_parallel(bytes, items, workers=2, chunk=2)) == items


def test_what_a_worker_prints_is_not_a_result():
    from parallel_work import printing

    assert list(in_parallel(printing, list(range(40)), workers=2, chunk=2)) == list(range(40))


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_the_first_error_is_the_one_that_is_raised(workers):
    from parallel_work import picky

    with pytest.raises(ValueError, match=r"^0 is bad$"):
        list(in_parallel(picky, list(range(60)), workers=workers, chunk=2))


def test_a_dead_worker_is_one_line():
    from parallel_work import dies

    with pytest.raises(InputError, match="a worker process died"):
        list(in_parallel(dies, [os.getpid()] * 200, workers=2, chunk=2))


@pytest.mark.parametrize("function", ["raises_unreadable", "returns_unpicklable"])
def test_what_no_process_can_hand_over_is_an_error_and_no_wait(function):
    import parallel_work

    with pytest.raises(RuntimeError, match=r"Unreadable\('1 and 2'\)|<function"):
        list(in_parallel(getattr(parallel_work, function), [os.getpid()] * 200, workers=2, chunk=2))


def test_items_that_cannot_be_handed_over_are_an_error_and_no_wait():
    from parallel_work import sleeps

    with pytest.raises((AttributeError, TypeError, pickle.PicklingError), match="pickle"):
        list(in_parallel(sleeps, [lambda: None] * 200, workers=2, chunk=2))


def test_leaving_early_ends_the_workers():
    from parallel_work import slow_square

    results = in_parallel(slow_square, list(range(1000)), workers=2, chunk=2)
    start = time.monotonic()
    next(results)
    results.close()
    assert time.monotonic() - start < 5


def test_a_worker_of_the_store_imports_neither_torch_nor_numpy():
    code = "import json, sys, lossbench.utils.worker, lossbench.data.images.packing\n"
    code += "print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert not {"torch", "numpy", "multiprocessing", "typer"} & set(json.loads(done.stdout))
