"""Runs of several processes on one folder: the first to claim one does it, and what it wrote is read, not undone."""

import os
import time
from dataclasses import replace

import pytest
from support import Recorder, bench, copied_bench, figures

from lossbench.benchmark.inputs import gather, open_pixels
from lossbench.benchmark.locks import claimed
from lossbench.benchmark.plan import Again, plan_runs
from lossbench.benchmark.queue import LONGEST_PAUSE, Queue, attempt, in_turn, one_of
from lossbench.config import Config
from lossbench.errors import InputError
from lossbench.results.store import read_record
from lossbench.utils import claims

SETTINGS = {"epochs": 1, "image_size": 32, "repeats": 1, "threads": 1}


def planned(out, **options):
    """What a command knows once it has planned its runs, before it does the first."""
    inputs = gather(Config(losses="ce", out=str(out), **{**SETTINGS, **options}), Recorder(), verify=True)
    return inputs, plan_runs(inputs.config, inputs.specs, inputs.faces, inputs.fingerprints, "cpu", inputs.folder)


def test_what_another_process_made_since_the_plan_is_taken_from_it(tmp_path):
    inputs, runs = planned(tmp_path)
    _, records, _ = copied_bench(tmp_path, "ce", **SETTINGS)
    made = in_turn(inputs, runs, heard := Recorder())
    assert heard.trained == []
    assert figures([made[run.hash] for run in runs]) == figures(records)


def test_a_run_that_is_to_be_repeated_keeps_its_record_where_its_claim_is_lost(tmp_path, monkeypatch):
    folder, _, _ = copied_bench(tmp_path, "ce", **SETTINGS)
    inputs, runs = planned(tmp_path)
    before = (runs[1].folder / "run.json").read_bytes()
    again = replace(runs[1], record=None, replaces=runs[1].record, again=Again.from_the_start)
    place = folder / ".claims" / again.folder.name

    def stand_still(inputs):
        """Another process takes the run over meanwhile."""
        (file,) = place.iterdir()
        file.rename(file.with_name(f"{file.name}.over"))

    monkeypatch.setattr("lossbench.benchmark.execute.refuse_changed", stand_still)
    assert attempt(inputs, open_pixels(inputs, Recorder()), again, heard := Recorder()) is None
    assert heard.notes == [
        "ce, repeat 1, is left to another process: this process did not run for 180 s, and another one took over its "
        "work"
    ]
    assert (runs[1].folder / "run.json").read_bytes() == before


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
    for _ in range(20):
        queue.postpone(first)
    assert queue.runs[-1][0] <= time.monotonic() + LONGEST_PAUSE


def test_one_free_run_is_done_and_those_of_others_are_not_waited_for(tmp_path):
    inputs, runs = planned(tmp_path)
    with claimed(runs[0].folder):
        record = one_of(inputs, runs, heard := Recorder())
        assert (record["entrant"], record["status"]) == ("ce", "finished")
        assert (heard.notes, heard.runs) == ([], 1)
        assert one_of(inputs, runs, heard := Recorder()) is None
        assert not hasattr(heard, "runs"), "nothing was begun"
        assert heard.notes == ["no run is free: 1 run is being trained by other processes"]
    assert one_of(inputs, runs, heard)["entrant"] == "untrained"
    assert one_of(inputs, runs, heard) is None
    assert len(heard.notes) == 1
    assert not hasattr(heard, "runs"), "an untrained network is not trained"
    assert heard.trained == []


def test_runs_that_somebody_has_begun_come_last_and_one_that_fell_silent_is_watched(tmp_path, monkeypatch):
    inputs, runs = planned(tmp_path)
    for run in runs:
        run.folder.parent.mkdir(parents=True, exist_ok=True)
    place = tmp_path / "orl" / ".claims" / runs[0].folder.name
    place.mkdir(parents=True)
    (place / "1").write_text("{}")  # by a process on another host, which has died
    past = time.time() - 1000
    os.utime(place / "1", (past, past))
    assert one_of(inputs, runs, heard := Recorder())["entrant"] == "ce"
    assert heard.notes == []
    monkeypatch.setattr(claims, "STALE", 1.0)
    begun = time.monotonic()
    assert one_of(inputs, runs, heard)["entrant"] == "untrained"
    assert time.monotonic() - begun > 1
    assert heard.notes == ["a process has been silent for 1 s; watching it for as long before its run is taken over"]
