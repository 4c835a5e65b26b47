"""When repeats are settled and why they stop, from runs whose right answer is known."""

import math

import numpy as np
from support import known_record

from lossbench.results.looks import Looks, Plan
from lossbench.results.settling import (
    comparisons,
    figures_to_settle,
    judged,
    look,
    progress_text,
    uncovered_text,
    why_stop,
)
from lossbench.results.study import Study

NCM, RATE = "test_accuracy_ncm", "tpr@0.1"
FIGURES = (NCM, RATE)


def study(entrants, repeats, draws=None, folds=1):
    """Runs whose figures are those of `entrants`: by name, both figures as a function of the repeat; None failed."""
    records = []
    for name, figure in entrants.items():
        for repeat in range(repeats):
            value = figure(repeat)
            status = {"status": "failed", "reason": "x"} if value is None else {}
            record = known_record(name, repeat, value, tpr=value, **status)
            records.append({**record, "protocol_hash": "p", "plugin": name, "split": f"fold {repeat % folds}"})
    return Study(tuple(records), draws or {})


def looked(entrants, repeats, draws=None, folds=1, most=8, smallest=0.02):
    """Look after every number of repeats from 2 on."""
    looks = Looks(Plan("p", "t", {name: name for name in entrants}, most, smallest), FIGURES)
    for count in range(2, repeats + 1):
        looks = look(looks, study(entrants, count, draws, folds))
    return looks, study(entrants, repeats, draws, folds)


def wave(height):
    return lambda repeat: height * math.cos(2.4 * repeat)


def far(repeat):
    return 0.9 + wave(0.001)(repeat)


def near(repeat):
    return 0.5 + wave(0.001)(repeat + 1)


def same(repeat):
    return 0.5 + wave(0.001)(repeat + 2)


def restless(repeat):
    return 0.5 + wave(0.2)(repeat + 3)


def test_what_is_to_be_settled_is_what_a_report_highlights_and_the_data_supports():
    runs = study({"a": far, "b": near}, 2)
    assert figures_to_settle(runs) == ((NCM, RATE, "tpr@0.01"), ("tpr@0.001",))
    failed = study({"a": lambda repeat: None, "b": lambda repeat: None}, 2)
    assert figures_to_settle(failed) == ((NCM, RATE, "tpr@0.01"), ()), "runs that failed support nothing, nor refute it"


def test_one_ahead_and_one_equivalent_is_settled():
    entrants = {"a": far, "b": near, "c": same}
    looks, runs = looked(entrants, 4)
    assert why_stop(looks, runs) == (
        "Settled after 4 repeats: of all 6 comparisons at accuracy (class means) and ID rate @ FPR 0.1, in 4 one loss "
        "is ahead and in 2 the two are equivalent (within 0.02)."
    )
    assert progress_text(looks, runs) == "look 3, after 4 repeats of at most 8: 6 of 6 comparisons settled"


def test_a_pair_that_is_open_asks_for_another_repeat_until_the_limit():
    entrants = {"a": restless, "b": near}
    looks, runs = looked(entrants, 7)
    assert why_stop(looks, runs) == ""
    looks, runs = looked(entrants, 8)
    assert why_stop(looks, runs) == (
        "Stopped at the limit of 8 repeats (--max-repeats): 2 of 2 comparisons are open (a and b at accuracy (class "
        "means) and ID rate @ FPR 0.1)."
    )
    looks, runs = looked(entrants, 3)
    assert why_stop(looks, runs, "and 5 minutes, because time is up") == (
        "Stopped after 3 repeats and 5 minutes, because time is up: 2 of 2 comparisons are open (a and b at accuracy "
        "(class means) and ID rate @ FPR 0.1)."
    )


def test_who_was_ahead_at_a_look_stays_ahead_and_nobody_else_is():
    entrants = {"a": lambda r: far(r) if r < 4 else restless(r), "b": near}
    looks, runs = looked(entrants, 8)
    first = next(one for one in looks.taken if one.decided)
    assert first.repeats <= 4
    assert {d.ahead for d in first.decided} == {"a"}
    assert all(c.settled for c in comparisons(looks, runs))
    assert {v.ahead for v in judged(runs, looks) if v.figure.key in FIGURES} == {"a"}
    assert {v.ahead for v in judged(runs, None) if v.figure.key in FIGURES} == {None}, "a single test would not say so"
    undecided, runs = looked({"a": restless, "b": near}, 3)
    sure = study({"a": far, "b": near}, 8)
    assert {v.ahead for v in judged(sure, undecided)} == {None}, "no look has seen these repeats"


def test_losses_that_no_look_has_seen_have_no_verdict():
    looks, runs = looked({"a": far, "b": near}, 4)
    assert uncovered_text(looks, runs) == uncovered_text(None, runs) == ""
    more = study({"a": far, "b": near, "c": restless, "d": same}, 4)
    assert {(v.a, v.b) for v in judged(more, looks)} == {("a", "b")}
    assert {v.ahead for v in judged(more, looks) if v.figure.key in FIGURES} == {"a"}
    assert uncovered_text(looks, more) == (
        "The looks of --until-settled do not cover c and d, so no verdict is given on them; to have one, run "
        "--until-settled with all losses."
    )


def test_a_look_is_not_taken_twice():
    entrants = {"a": far, "b": near}
    looks, runs = looked(entrants, 5)
    assert look(looks, runs) is looks
    assert look(looks, study(entrants, 3)) is looks
    assert [one.repeats for one in looks.taken] == [2, 3, 4, 5]


def test_a_loss_that_fails_again_and_again_is_not_waited_for():
    def fails(repeat):
        return None

    looks, runs = looked({"a": restless, "b": near, "c": fails}, 4)
    assert why_stop(looks, runs) == "", "a and b are open as well"
    looks, runs = looked({"a": far, "b": near, "c": fails}, 4)
    assert why_stop(looks, runs) == (
        "Stopped after 4 repeats: 4 of 6 comparisons are open, because c has finished fewer than two runs; "
        "--retry-failed repeats failed runs."
    )
    looks, runs = looked({"a": far, "b": lambda repeat: None if repeat == 0 else near(repeat)}, 2)
    assert why_stop(looks, runs) == "", "one failure of two may be bad luck"


def drawn(names, repeats, size, folds=1):
    """Resamples in which the first loss depends on the people: those of a fold, which all of its repeats share."""
    rng = np.random.default_rng(0)
    people = rng.normal(0, size, (folds, 2000))
    quiet = rng.normal(0, 1e-4, (len(names), repeats, 2000))
    return {
        (name, repeat): dict.fromkeys(FIGURES, quiet[i, repeat] + (people[repeat % folds] if i == 0 else 0))
        for i, name in enumerate(names)
        for repeat in range(repeats)
    }


def test_more_repeats_are_of_no_use_where_people_are_too_few():
    entrants = {"a": lambda repeat: near(repeat) + 0.03, "b": near}
    looks, runs = looked(entrants, 3, drawn("ab", 3, 0.05))
    assert why_stop(looks, runs) == (
        "Stopped after 3 repeats: 2 of 2 comparisons are open, and more repeats alone could not settle "
        "a and b at accuracy (class means) and ID rate @ FPR 0.1: more people are needed."
    )
    looks, runs = looked(entrants, 3, drawn("ab", 3, 0.001))
    assert why_stop(looks, runs).startswith("Settled"), "these people are enough"


def test_seeds_that_may_hide_a_larger_difference_are_given_more_repeats():
    entrants = {"a": lambda repeat: restless(repeat) + 0.03, "b": near}
    looks, runs = looked(entrants, 3, drawn("ab", 3, 0.01))
    assert why_stop(looks, runs) == ""
