"""What every logger is given: names, settings and figures as records and histories have them."""

import dataclasses
import math

import pytest
from support import bench

from lossbench.benchmark.loggers.logger import epoch_figures, final_figures, name_of, settings_of
from lossbench.benchmark.plan import Run
from lossbench.results.history import Epoch
from lossbench.results.metric_fields import runs_frame

EPOCH = Epoch(3, train_loss=2.5, val_accuracy=0.5, lr=0.1, images=100, seconds=2.0)


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    _, records, _ = bench(tmp_path_factory.mktemp("out"), "arcface:margin=0.3", repeats=1, epochs=1)
    return records[1]


def run_of(record) -> Run:
    place = dict.fromkeys(("spec", "measuring", "hash", "folder", "record"))
    return Run(record["entrant"], repeat=record["repeat"], identity=record, **place)


def test_an_epoch_says_all_that_its_line_of_the_history_does():
    found = epoch_figures(dataclasses.replace(EPOCH, tracked={"tpr@0.1": 0.75, "tpr@0.001": None}))
    line = dataclasses.asdict(EPOCH)
    del line["epoch"], line["tracked"]
    assert found == {**line, "images_per_second": 50.0, "tracked/tpr@0.1": 0.75}


def test_figures_that_are_not_known_are_left_out():
    found = epoch_figures(dataclasses.replace(EPOCH, val_accuracy=math.nan, seconds=0.0))
    assert found.keys() == {"train_loss", "lr", "images", "seconds"}


def test_final_figures_are_those_of_the_csv_of_runs(record):
    row = runs_frame([record]).iloc[0]
    found = final_figures(record)
    for key in ("test_accuracy", "tpr@0.1", "train_w_ec", "images_per_second"):
        assert found[f"final/{key}"] == row[key]
    expected = {f"final/{key}" for key, value in row.items() if isinstance(value, float) and not math.isnan(value)}
    assert expected <= found.keys()
    assert "final/threshold@0.1" not in found  # in run.json alone


def test_a_run_that_failed_in_training_has_no_figures_but_its_timings(record):
    failed = {**record, "status": "failed", "metrics": {}, "timings": {"seconds": 2.0}}
    assert final_figures(failed) == {"final/seconds": 2.0}


def test_settings_are_flat_and_say_the_loss_and_how_it_was_trained(record):
    found = settings_of(run_of(record))
    assert (found["loss"], found["repeat"], found["loss/margin"]) == ("arcface:margin=0.3", 0, 0.3)
    assert (found["epochs"], found["optimizer"], found["track"]) == (1, "adamw", False)
    assert all(isinstance(value, str | int | float | bool) for value in found.values())
    assert name_of(run_of(record)) == "arcface:margin=0.3-r0"
