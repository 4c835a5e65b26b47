"""The plan of a benchmark: which runs there are, in which order, and how each complete one is repeated."""

import pytest
from support import Recorder, copied_bench

from lossbench.benchmark.inputs import gather
from lossbench.benchmark.plan import Again, plan_runs
from lossbench.config import Config

SETTINGS = {"epochs": 1, "image_size": 32, "repeats": 1, "threads": 1}


def plan(out, losses="ce", **options):
    inputs = gather(Config(losses=losses, out=str(out), **{**SETTINGS, **options}), Recorder(), verify=True)
    return plan_runs(inputs.config, inputs.specs, inputs.faces, inputs.fingerprints, "cpu", inputs.folder)


def test_runs_come_repeat_by_repeat_and_each_has_a_folder_of_its_own(tmp_path):
    runs = plan(tmp_path, "ce,arcface", repeats=7)  # two more than ORL has folds
    assert [(run.entrant, run.repeat) for run in runs] == [
        (name, repeat) for repeat in range(7) for name in ("untrained", "ce", "arcface")
    ]
    assert len({run.hash for run in runs}) == len({run.folder for run in runs}) == 21
    assert [run.identity["fold"] for run in runs[::3]] == [0, 1, 2, 3, 4, 0, 1]
    assert runs[0].identity["split"] == runs[15].identity["split"] != runs[3].identity["split"]
    assert len({run.protocol_hash for run in runs}) == 1
    assert all(run.record is None and run.again is None for run in runs)
    assert not (tmp_path / "orl").exists(), "a plan writes nothing"


def test_a_further_loss_or_repeat_leaves_the_runs_as_they_are(tmp_path):
    few = {run.hash for run in plan(tmp_path)}
    assert few < {run.hash for run in plan(tmp_path, "arcface,ce", repeats=2)}


@pytest.mark.parametrize("change", [{"lr": 0.1}, {"seed": 5}, {"epochs": 2}])
def test_what_changes_the_training_makes_another_run(tmp_path, change):
    assert plan(tmp_path)[1].hash != plan(tmp_path, **change)[1].hash


def test_a_complete_run_is_kept_or_measured_again_and_its_record_is_what_is_replaced(tmp_path, monkeypatch):
    _, records, _ = copied_bench(tmp_path, "ce", **SETTINGS)
    kept = plan(tmp_path)
    assert [run.record["metrics"] for run in kept] == [record["metrics"] for record in records]
    assert all(run.again is None for run in kept)
    monkeypatch.setattr("lossbench.benchmark.fingerprints.MEASURING", ("evaluation/*.py",))
    again = plan(tmp_path)
    assert [run.again for run in again] == [Again.measured] * 2
    assert [run.replaces for run in again] == [run.record for run in kept]
    assert [run.hash for run in again] == [run.hash for run in kept]
    assert again[1].protocol_hash != kept[1].protocol_hash
