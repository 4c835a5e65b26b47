"""What the people add however many repeats there are, from draws whose covariance is known."""

import math

import numpy as np
import pytest
from support import known_record

from lossbench.results.people_error import people_limit
from lossbench.results.study import Study
from lossbench.results.verdicts import verdicts

RATE, SIZE = "tpr@0.1", 0.05


def study(repeats, folds, gap=0.0):
    """Two losses; the people of a fold move their difference, in its resamples, with a standard deviation of SIZE."""
    rng = np.random.default_rng(0)
    moved = [rng.normal(0, SIZE, 4000) for _ in range(folds)]
    records, resamples = [], {}
    for name in "ab":
        for repeat in range(repeats):
            value = 0.5 + 0.05 * math.cos(2.4 * repeat) * (name == "a") + gap * (name == "a")
            record = known_record(name, repeat, value, tpr=value)
            records.append({**record, "data": "orl", "split": f"fold {repeat % folds}"})
            resamples[name, repeat] = {RATE: 0.5 + moved[repeat % folds] * (name == "a")}
    return Study(tuple(records), resamples)


def limit(runs, *pair, **options):
    return people_limit(runs, *(pair or ("a", "b")), RATE, **options)


def test_the_people_of_folds_are_known_once_a_fold_is_repeated():
    assert all(math.isnan(limit(study(repeats, 5))) for repeats in range(2, 6))
    runs = study(6, 5)
    assert limit(runs) == pytest.approx(SIZE**2 / 5, rel=0.2), "five folds of other people"
    assert limit(runs, "b", "a") == limit(runs)
    assert runs.difference("a", "b", RATE).shared < SIZE**2 / 5, "what repeats share so far says too little"


def test_on_the_same_people_it_is_what_repeats_share():
    runs = study(3, 1)
    assert limit(runs) == pytest.approx(runs.difference("a", "b", RATE).shared)
    assert limit(runs) == pytest.approx(SIZE**2, rel=0.1)
    assert math.isnan(limit(Study(runs.records, {}))), "without resamples nothing is known"


@pytest.mark.parametrize("repeats", [2, 3, 5])
def test_before_a_fold_is_repeated_its_own_resamples_are_the_guess(repeats):
    """ORL has five folds, also where fewer have been measured."""
    assert limit(study(repeats, 5), guess=True) == pytest.approx(SIZE**2 / 5, rel=0.2)
    assert limit(study(6, 5), guess=True) == limit(study(6, 5))
    assert math.isnan(limit(Study(study(3, 5).records, {}), guess=True))


def test_repeats_on_folds_that_come_round_again_do_not_settle_what_people_hide():
    """0.02 apart, with a lasting error of 0.022: without the folds' people, 1,000 repeats would have been promised."""
    (found,) = [v for v in verdicts(study(5, 5, gap=0.02)) if v.figure.key == RATE]
    assert found.difference.repeats_to_separate(found.each) is not None
    assert found.repeats_to_settle is None
