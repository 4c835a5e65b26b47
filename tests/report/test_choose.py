"""What to choose follows from the verdicts, from records whose right answer is known."""

import pytest
from support import STUDY, changed, known_record

from lossbench.report.choose import choices, leaders, uncompared
from lossbench.results.study import Study
from lossbench.results.verdicts import verdicts

FOUND = verdicts(STUDY)


def said(study, found=None):
    return {one.when: one.text for one in choices(study, verdicts(study) if found is None else found)}


def test_who_is_behind_does_not_lead():
    own = [v for v in FOUND if v.figure.key == "test_accuracy_ncm"]
    assert leaders(STUDY, own) == ["a", "c"], "a is ahead of b; c varies too much for any verdict"
    text = said(STUDY)["training people are to be recognised (accuracy by class means)"]
    assert text == (
        "a or c: no other is ahead of them in accuracy by class means (0.901 and 0.933 against 0.801). "
        "Not b, which is behind."
    )


def test_points_with_the_same_leaders_are_said_once():
    points = [one for one in choices(STUDY, FOUND) if "unseen people" in one.when]
    assert [one.figures for one in points] == [("tpr@0.1", "tpr@0.01")]
    assert points[0].when == "unseen people are to be told apart at FPR 0.1 or 0.01: one wrong match in 10 or 100"
    assert points[0].text.startswith("Any of the 3: none is ahead of another in ID rate @ FPR 0.1 (0.500, 0.500 and ")


def test_leading_everywhere_counts_most():
    assert said(STUDY)["all of these count"] == "a or c: no other is ahead of them at any figure."
    ways = {"a": (0.9, 0.5), "b": (0.5, 0.9)}
    runs = [known_record(n, r, *(way + 0.001 * r for way in ways[n])) for n in "ab" for r in range(4)]
    runs[0]["metrics"]["test_accuracy_ncm"] += 0.0001
    runs[0]["metrics"]["tpr@0.1"] += 0.0001
    runs = [changed(run, ("metrics", "tpr@0.01"), None) for run in runs]
    found = said(Study(tuple(runs), {}))
    assert found["all of these count"] == "No loss leads everywhere: decide which figure counts."


def test_failed_runs_are_counted():
    assert said(STUDY)["a failed training is expensive"] == (
        "a or b, which finished every run. Failed: c (1 of 4 runs)."
    )
    whole = Study(tuple(run for run in STUDY.records if run["entrant"] in "ab"), {})
    assert said(whole)["a failed training is expensive"] == (
        "It does not decide: every run finished. With 4 of each loss, a failure rate of up to 53 % cannot be ruled out."
    )


@pytest.mark.parametrize(("slow", "text"), [(50.0, "a; c trains more slowly (50 to 101 images/s)."), (None, None)])
def test_speed_decides_only_where_it_is_measurably_higher(slow, text):
    def timed(run):
        speed = slow if slow and run["entrant"] == "c" else 100.0 + run["repeat"]
        return changed(run, ("timings", "images_per_second"), speed)

    study = Study(tuple(timed(run) for run in STUDY.records), {})
    found = said(study, FOUND)["training time counts"]
    assert found == (text or "It does not decide among a and c: none trained measurably faster (101 to 101 images/s).")


def test_without_speeds_cost_is_not_spoken_of():
    study = Study(tuple(changed(run, ("timings",), {}) for run in STUDY.records), {})
    assert "training time counts" not in said(study, FOUND)


def test_one_repeat_recommends_nothing():
    first = Study(tuple(run for run in STUDY.records if run["repeat"] == 0), {})
    assert choices(first, verdicts(first)) == []


def test_losses_without_a_verdict_are_named():
    assert uncompared(STUDY, FOUND) == ""
    runs = [run for run in STUDY.records if run["entrant"] != "c" or run["repeat"] in (0, 3)]
    study = Study(tuple(runs), {})
    assert uncompared(study, verdicts(study)) == (
        "Nothing is said of c (1 finished run): a verdict needs two repeats that both losses have finished."
    )


def test_many_losses_behind_are_counted():
    names = [f"loss{i}" for i in range(7)]
    level = [0.9, *[0.8] * 6]
    runs = [known_record(n, r, level[i] + r * (10 + i) / 1e4) for i, n in enumerate(names) for r in range(4)]
    study = Study(tuple(runs), {})
    text = said(study)["training people are to be recognised (accuracy by class means)"]
    assert text.startswith("loss0: no other is ahead of it in accuracy by class means (0.902 against 0.80")
    assert text.endswith("). The other 6 are behind.")


def test_where_most_lead_those_that_do_not_are_named():
    names = [f"l{i}" for i in range(9)]
    runs = [
        known_record(n, r, 0.9 if n != "l3" else 0.3, 0.5 + 0.001 * ((r * 7 + i * 3) % 5))
        for i, n in enumerate(names)
        for r in range(4)
    ]
    for i, run in enumerate(runs):
        run["metrics"]["test_accuracy_ncm"] += 0.0001 * (i % 3)
    found = said(Study(tuple(runs), {}))
    text = found["training people are to be recognised (accuracy by class means)"]
    assert text.startswith(
        "Any but l3, which is behind: no other is ahead of them in accuracy by class means (0.900 to "
    )
    assert found["all of these count"] == "Any but l3: no other is ahead of them at any figure."
