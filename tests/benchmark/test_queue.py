"""Runs of several processes on one folder: the first to claim one does it, and what it wrote is read, not undone."""

import pytest
from support import Recorder, bench, figures

from lossbench.benchmark.inputs import gather, open_pixels
from lossbench.benchmark.plan import plan_runs
from lossbench.benchmark.queue import Queue, attempt, in_turn
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.results.store import read_record

SETTINGS = {"epochs": 1, "image_size": 32, "repeats": 1, "threads": 1}


def planned(out, **options):
    """What a command knows once it has planned its runs, before it does the first."""
    inputs = gather(Config(losses="ce", out=str(out), **{**SETTINGS, **options}), Recorder(), verify=True)
    return inputs, plan_runs(inputs.config, inputs.specs, inputs.faces, inputs.fingerprints, "cpu", inputs.folder)


def test_what_another_process_made_since_the_plan_is_taken_from_it(tmp_path):
    inputs, runs = planned(tmp_path)
    _, records, _ = bench(tmp_path, "ce", **SETTINGS)
    made = in_turn(inputs, runs, heard := Recorder())
    assert heard.trained == []
    assert figures([made[run.hash] for run in runs]) == figures(records)


@pytest.mark.parametrize("finished", [False, True], ids=["to be trained", "to be measured again"])
def test_two_commands_that_measure_one_folder_differently_are_told_so(tmp_path, monkeypatch, finished):
    """Neither undoes the work of the other for ever: the one that finds the other's figures ends in one line."""
    if finished:
        bench(tmp_path, "ce", **SETTINGS)
    with monkeypatch.context() as other:
        other.setattr("lossbench.benchmark.fingerprints.MEASURING", ("evaluation/*.py",))
        inputs, runs = planned(tmp_path)
    monkeypatch.setattr("lossbench.benchmark.fingerprints.MEASURING", ("metrics/*.py",))
    bench(tmp_path, "ce", **SETTINGS)
    before = read_record(runs[1].folder)
    with pytest.raises(InputError, match=r"\Aanother process measures the runs in .*/orl differently .* own --name\Z"):
        attempt(inputs, open_pixels(inputs, Recorder()), runs[1], Recorder())
    assert read_record(runs[1].folder) == before


def test_a_run_that_another_process_holds_is_put_back_for_a_moment_and_that_is_said_once(tmp_path):
    _, runs = planned(tmp_path)
    queue = Queue(runs, heard := Recorder())
    first = queue.take()
    queue.postpone(first)
    assert (first, queue.take(), queue.take(), len(queue)) == (runs[0], runs[1], None, 1)
    for _ in range(2):
        queue.say_waiting()
    assert heard.notes == ["1 run is being trained by other processes; waiting for them"]
    queue.runs[0] = (0.0, first)  # once the pause is over
    assert (queue.take(), len(queue)) == (first, 0)
