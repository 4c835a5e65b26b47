import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from lossbench.errors import InputError
from lossbench.utils.processes import in_parallel


@pytest.fixture(scope="module", autouse=True)
def importable(tmp_path_factory):
    """A module that other processes can import, as they import lossbench."""
    folder = tmp_path_factory.mktemp("modules")
    (folder / "parallel_work.py").write_text(
        """
import os, sys, threading, time

def square(item):
    return item * item, os.getpid()

def mark(folder, item):
    (folder / str(item)).touch()
    time.sleep(0.01)

def slow_square(item):
    time.sleep(0.02)
    return square(item)

def printing(item):
    print("a library that prints", flush=True)
    return item

def picky(item):
    time.sleep(0.02 if item else 0.2)
    if item in (0, 5, 40):
        raise ValueError(f"{item} is bad")
    return item

class Unreadable(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")  # pickled without its arguments: it cannot be read again

def raises_unreadable(item):
    raise Unreadable(1, 2)

def returns_unpicklable(item):
    return threading.Lock()

def stuck(item):
    if item > 1:
        time.sleep(600)
    return os.getpid()

def dies(item):
    if item == 7:
        os._exit(3)
    time.sleep(0.02)

def modules(name):
    __import__(name)
    return sorted(sys.modules)
"""
    )
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


def alive(process: int) -> bool:
    stat = Path("/proc", str(process), "stat")
    return stat.exists() and stat.read_text().rsplit(")")[1].split()[0] != "Z"


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers):
    from parallel_work import slow_square

    found = list(in_parallel(slow_square, list(range(100)), workers=workers, chunk=3))
    assert [value for value, _ in found] == [item * item for item in range(100)]
    processes = {process for _, process in found}
    assert (os.getpid() in processes) == (workers == 1)
    assert len(processes) <= workers
    assert not any(map(alive, processes - {os.getpid()}))


def test_results_come_before_all_items_are_done(tmp_path):
    from parallel_work import mark

    results = in_parallel(partial(mark, tmp_path), list(range(4000)), workers=2, chunk=2)
    next(results)
    results.close()
    assert 2 <= len(list(tmp_path.iterdir())) < 4000


def test_few_items_start_no_process():
    from parallel_work import square

    assert {process for _, process in in_parallel(square, list(range(1000)))} == {os.getpid()}
    assert list(in_parallel(square, [], workers=2)) == []


def test_large_results_and_items_do_not_jam():
    items = [bytes(300_000)] * 12
    assert list(in_parallel(bytes, items, workers=2, chunk=2)) == items


def test_what_a_worker_prints_is_not_in_the_output_of_the_command(capfd):
    from parallel_work import printing

    assert list(in_parallel(printing, list(range(40)), workers=2, chunk=2)) == list(range(40))
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == ["a library that prints"] * 40


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_is_the_one_that_is_raised(workers):
    from parallel_work import picky

    with pytest.raises(ValueError, match=r"^0 is bad$"):
        list(in_parallel(picky, list(range(60)), workers=workers, chunk=2))


@pytest.mark.parametrize("workers", [1, 2])
def test_results_before_an_error_are_not_lost(workers):
    from parallel_work import picky

    found = []
    with pytest.raises(ValueError, match=r"^5 is bad$"):
        found.extend(in_parallel(picky, list(range(1, 60)), workers=workers, chunk=10))
    assert found == [1, 2, 3, 4]


def test_a_dead_worker_is_one_line():
    from parallel_work import dies

    with pytest.raises(InputError, match=r"\Aa worker process died[^\n]*\Z"):
        list(in_parallel(dies, list(range(200)), workers=2, chunk=2))


@pytest.mark.parametrize("function", ["raises_unreadable", "returns_unpicklable"])
def test_what_no_process_can_hand_over_is_an_error_and_no_wait(function):
    import parallel_work

    with pytest.raises((RuntimeError, TypeError), match=r"un-serialize|cannot pickle"):
        list(in_parallel(getattr(parallel_work, function), list(range(200)), workers=2, chunk=2))


def test_items_that_cannot_be_handed_over_are_an_error_and_no_wait():
    from parallel_work import square

    with pytest.raises(pickle.PicklingError, match="pickle"):
        list(in_parallel(square, [threading.Lock() for _ in range(200)], workers=2, chunk=2))


def test_leaving_early_ends_the_workers_and_says_nothing(capfd):
    from parallel_work import slow_square

    results = in_parallel(slow_square, list(range(5000)), workers=2, chunk=2)
    processes = {next(results)[1] for _ in range(40)}
    results.close()
    assert not any(map(alive, processes))
    assert capfd.readouterr() == ("", "")


def test_leaving_early_ends_workers_that_are_stuck():
    from parallel_work import stuck

    results = in_parallel(stuck, list(range(100)), workers=2, chunk=1)
    processes = {next(results), next(results)}
    results.close()
    assert not any(map(alive, processes))


_INTERRUPTED = """
import signal
from parallel_work import slow_square
from lossbench.utils.processes import in_parallel

signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    for value, process in in_parallel(slow_square, list(range(5000)), workers=2, chunk=2):
        print(process, flush=True)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("results", [0, 30])
def test_an_interrupt_is_for_this_process_alone(importable, tmp_path, results):
    """As from a terminal, it goes to the workers too; with 0 results, they are still starting."""
    script = tmp_path / "script.py"  # without a guard for `__main__`
    script.write_text(_INTERRUPTED)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(importable), *sys.path])}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    running = subprocess.Popen([sys.executable, str(script)], env=environment, start_new_session=True, **pipes)
    processes = {int(running.stdout.readline()) for _ in range(results)}
    while not results and not _children(running.pid, "popen_loky"):
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=60)
    assert (out.splitlines()[-1:], err) == (["interrupted"], "")
    assert not any(map(alive, processes))


def _children(parent: int, named: str) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            if stat.read_text().rsplit(")")[1].split()[1] == str(parent):
                found += [int(stat.parent.name)] * (named in (stat.parent / "cmdline").read_text())
        except OSError:  # it has ended
            continue
    return found


@pytest.mark.parametrize("module", ["images.packing", "prepare.crops", "inspect.check"])
def test_a_worker_does_not_import_torch(module):
    from parallel_work import modules

    [found, _] = in_parallel(modules, [f"lossbench.data.{module}"] * 2, workers=2, chunk=1)
    assert "numpy" in found
    assert not {"torch", "pandas", "typer", "rich"} & set(found)
