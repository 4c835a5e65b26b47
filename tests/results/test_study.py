"""A study: every figure by entrant and repeat, with the resamples that belong to it."""

import math

import numpy as np
import pytest
from support import RECORDS, STUDY, known_record

from lossbench.errors import InputError
from lossbench.metrics.uncertainty import estimate, paired_difference
from lossbench.results.arrays import save_arrays
from lossbench.results.study import Study, entrants

KEY = "tpr@0.1"
DRAWS = {
    (name, repeat): {KEY: np.random.default_rng(repeat).normal(0.5, 0.1, 50) + 0.01 * i}
    for i, name in enumerate(("a", "b"))
    for repeat in range(4)
}


def test_the_untrained_backbone_comes_last():
    assert entrants(RECORDS) == STUDY.entrants == ["a", "b", "c", "untrained"]
    assert entrants([]) == []


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
    own = {repeat: DRAWS["a", repeat][KEY] for repeat in range(4)}
    others = {repeat: DRAWS["b", repeat][KEY] for repeat in range(4)}
    values = dict.fromkeys(range(4), 0.5)
    assert study.estimate("a", KEY) == estimate(values, own, 8)
    assert study.difference("a", "b", KEY) == paired_difference(values, values, own, others, 8)
    accuracies = {repeat: 0.90 + 0.001 * repeat for repeat in range(4)}
    assert study.estimate("a", "test_accuracy") == estimate(accuracies, {}, 24), "none are drawn of it"


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
