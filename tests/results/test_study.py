"""A study: every figure by entrant and repeat, with the resamples that belong to it."""

import math

import numpy as np
import pytest
from support import RECORDS, STUDY, known_record

from lossbench.errors import InputError
from lossbench.metrics import pooling
from lossbench.metrics.uncertainty import estimate
from lossbench.results.arrays import save_arrays
from lossbench.results.study import Study, entrants, mean

KEY = "tpr@0.1"
DRAWS = {
    (name, repeat): {KEY: np.random.default_rng(repeat).normal(0.5, 0.1, 50) + 0.01 * i}
    for i, name in enumerate(("a", "b"))
    for repeat in range(4)
}


def test_the_untrained_backbone_comes_last():
    assert entrants(RECORDS) == STUDY.entrants == ["a", "b", "c", "untrained"]
    assert entrants([]) == []


def test_repeats_are_counted_whether_or_not_they_finished():
    assert STUDY.repeats == len({record["repeat"] for record in RECORDS}) == 4


def test_values_are_nan_where_a_run_failed_or_has_no_such_figure():
    failed = {**known_record("c", 1, 0.9, status="failed", reason="x"), "metrics": {"test_accuracy": 0.9}}
    study = Study((known_record("c", 0, 0.8), failed), {})
    values = study.values("c", "test_accuracy")
    assert values[0] == 0.8
    assert math.isnan(values[1]), "whatever it measured"
    assert all(math.isnan(value) for value in study.values("c", "tpr@0.001").values())
    assert all(math.isnan(value) for value in study.values("c", "no_such_figure").values())
    assert study.values("nobody", "test_accuracy") == {}
    assert math.isnan(STUDY.values("c", "test_accuracy")[3])


def test_estimates_use_the_resamples_of_the_entrant_and_the_people_of_the_figure():
    study = Study(tuple(RECORDS), DRAWS)
    values = {name: study.values(name, KEY) for name in ("a", "b", "c")}
    draws = {name: {repeat: DRAWS[name, repeat][KEY] for repeat in range(4)} for name in ("a", "b")}
    assert study.estimate("a", KEY) == pooling.estimates(values, draws, 8)["a"]
    assert study.difference("a", "b", KEY) == pooling.differences(values, draws, 8)["a", "b"]
    accuracies = {name: study.values(name, "test_accuracy") for name in values}
    assert study.estimate("a", "test_accuracy") == pooling.estimates(accuracies, {}, 24)["a"], "none are drawn of it"


def test_a_difference_has_two_directions():
    there, back = (STUDY.difference(*pair, "test_accuracy") for pair in (("a", "b"), ("b", "a")))
    assert back.mean == -there.mean != 0
    assert back.error == there.error


def test_the_untrained_backbone_lends_no_spread_and_borrows_none():
    own = STUDY.values("untrained", "test_accuracy")
    assert STUDY.estimate("untrained", "test_accuracy") == estimate(own, {}, 24)
    assert STUDY.trained == ["a", "b", "c"]
    without = Study(tuple(r for r in RECORDS if r["entrant"] != "untrained"), {})
    assert without.estimate("a", "test_accuracy") == STUDY.estimate("a", "test_accuracy")


def test_a_difference_is_taken_over_the_repeats_that_both_finished():
    assert STUDY.difference("a", "b", "test_accuracy").count == 4
    assert STUDY.difference("a", "c", "test_accuracy").count == 3


def finished(folder, entrant, repeat, resamples):
    folder.mkdir()
    save_arrays(folder / "resamples.npz", {KEY: np.full(resamples, 0.5)})
    return {**known_record(entrant, repeat, 0.9), "folder": str(folder)}


def test_resamples_are_read_of_finished_runs_alone(tmp_path):
    records = [finished(tmp_path / "a", "a", 0, 5), {**RECORDS[-1], "folder": str(tmp_path / "none")}]
    study = Study.of(records)
    assert list(study.resamples) == [("a", 0)]
    assert study.resamples["a", 0][KEY].tolist() == [0.5] * 5


def test_runs_of_one_repeat_must_have_as_many_resamples_and_those_of_others_need_not(tmp_path):
    a, b = finished(tmp_path / "a", "a", 0, 5), finished(tmp_path / "b", "b", 1, 6)
    assert len(Study.of([a, b]).resamples) == 2
    with pytest.raises(InputError, match=r"\Aruns of repeat 1 have \[5, 7\] resamples; is one of another benchmark"):
        Study.of([a, b, finished(tmp_path / "c", "c", 0, 7)])


def test_means_are_those_of_the_estimates_to_the_last_bit_whatever_the_python():
    """From Python 3.12 on sum() compensates rounding, and the mean of three times 0.1 would be another there."""
    assert mean([0.1, math.nan, 0.1, 0.1]) == 0.10000000000000002
    assert math.isnan(mean([math.nan]))
    study = Study(tuple(known_record("a", repeat, 0.1) for repeat in (2, 0, 1)), {})
    assert study.mean("a", "test_accuracy") == study.estimate("a", "test_accuracy").mean == 0.10000000000000002
    assert STUDY.mean("c", "test_accuracy") == STUDY.estimate("c", "test_accuracy").mean, "it failed in a repeat"
    assert STUDY.mean("b", "test_accuracy", [1]) == STUDY.values("b", "test_accuracy")[1]
    assert math.isnan(STUDY.mean("c", "test_accuracy", [3]))
    assert math.isnan(STUDY.mean("c", "no_such_figure"))
