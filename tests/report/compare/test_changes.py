"""What changes between benchmarks, in words."""

from support import REPORTED, changed, compared, renamed

from lossbench.report.compare.changes import sentences


def test_what_holds_everywhere_is_said_and_that_nothing_is_reversed():
    first, second, last = sentences(compared(x=REPORTED, y=REPORTED))
    assert first == "No verdict is reversed: no loss that is ahead in one benchmark is behind in another."
    assert second.startswith(
        "The same everywhere: a is ahead of b in accuracy by class means (0.902 against 0.802 on x; "
    )
    assert last.startswith("The benchmarks agree on 9 of the 9 comparisons that every one of them can make; x settles ")


def test_a_reversal_comes_first_with_its_numbers():
    told = sentences(compared(x=REPORTED, y=renamed({"a": "b", "b": "a"})))
    assert told[0] == (
        "Reversed: a is ahead of b on x but behind on y, in accuracy by class means (0.902 against 0.802 on x; "
        "0.802 against 0.902 on y)."
    )


def test_what_only_one_benchmark_decides_names_it_and_the_other():
    noisy = [
        changed(run, ("metrics", "test_accuracy_ncm"), 0.7 + 0.2 * ((run["repeat"] + (run["entrant"] == "a")) % 2))
        for run in REPORTED
        if run["metrics"]
    ]
    for runs in ({"x": REPORTED, "y": noisy}, {"y": noisy, "x": REPORTED}):
        told = " ".join(sentences(compared(**runs)))
        assert "a is ahead of b on x but not separable on y, in accuracy by class means (" in told
    told = " ".join(sentences(compared(x=REPORTED, y=noisy, z=REPORTED)))
    assert "a is ahead of b on x and z but not separable on y, in accuracy by class means (" in told


def test_equivalence_here_and_a_lead_there():
    near = [changed(r, ("metrics", "test_accuracy_ncm"), 0.9 + 0.001 * r["repeat"]) for r in REPORTED if r["metrics"]]
    told = " ".join(sentences(compared(x=near, y=REPORTED)))
    assert "a is ahead of b on y but equivalent on x, in accuracy by class means (" in told
    noisy = [
        changed(run, ("metrics", "test_accuracy_ncm"), 0.7 + 0.2 * ((run["repeat"] + (run["entrant"] == "a")) % 2))
        for run in near
    ]
    told = " ".join(sentences(compared(x=near, y=noisy)))
    assert "are equivalent on x but not separable on y, in accuracy by class means (" in told


def test_where_nothing_can_be_compared_the_reason_is_said():
    short = [run for run in REPORTED if run["repeat"] == 0]
    (told,) = sentences(compared(x=REPORTED, y=short))
    assert told == "No verdict can be compared yet: y has no two repeats that two of the losses have finished."
    alone = [run for run in REPORTED if run["entrant"] == "a"]
    (told,) = sentences(compared(x=REPORTED, y=alone))
    assert told == "No verdict can be compared: a is the only loss trained in all of the benchmarks."


def test_pairs_with_too_few_repeats_are_counted():
    short = [run for run in REPORTED if run["entrant"] != "c" or run["repeat"] == 0]
    assert " 6 more have too few repeats in one of the benchmarks. " in sentences(compared(x=REPORTED, y=short))[-1]
