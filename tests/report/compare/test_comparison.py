"""What benchmarks share, what is refused in one line, and how a pair's verdicts differ."""

import shutil

import pytest
from support import REPORTED, WORDS, changed, compared, renamed

from lossbench.errors import InputError
from lossbench.report.compare.comparison import read_comparison


def by_change(comparison):
    return {(pair.figure.key, pair.a, pair.b): pair.change for pair in comparison.pairs}


def test_the_same_runs_have_the_same_verdicts():
    comparison = compared(x=REPORTED, y=REPORTED)
    assert comparison.labels == ["x", "y"]
    assert comparison.losses == ("a", "b", "c")
    assert set(by_change(comparison).values()) == {"same"}
    assert comparison.pairs[0].figure.point is not None, "operating points first"


def test_losses_that_change_places_are_reversed_and_pairs_of_one_repeat_unknown():
    comparison = compared(x=REPORTED, y=renamed({"a": "b", "b": "a"}))
    key = ("test_accuracy_ncm", "a", "b")
    assert by_change(comparison)[key] == "reversed"
    (pair,) = (p for p in comparison.pairs if (p.figure.key, p.a, p.b) == key)
    assert pair.states == ("ahead", "behind")
    assert pair.turned.states == ("behind", "ahead")
    short = [run for run in REPORTED if run["entrant"] != "b" or run["repeat"] == 0]
    assert by_change(compared(x=REPORTED, y=short))[key] == "unknown"


def test_a_loss_that_no_longer_differs_is_equivalent_or_open():
    near = [
        changed(run, ("metrics", "test_accuracy_ncm"), 0.9 + 0.001 * run["repeat"])
        for run in REPORTED
        if run["metrics"]
    ]
    assert by_change(compared(x=REPORTED, y=near))["test_accuracy_ncm", "a", "b"] == "ahead or equivalent"
    noisy = [
        changed(run, ("metrics", "test_accuracy_ncm"), 0.7 + 0.2 * ((run["repeat"] + (run["entrant"] == "a")) % 2))
        for run in REPORTED
        if run["metrics"]
    ]
    assert by_change(compared(x=REPORTED, y=noisy))["test_accuracy_ncm", "a", "b"] == "ahead or open"
    assert by_change(compared(x=near, y=noisy))["test_accuracy_ncm", "a", "b"] == "equivalent or open"


def test_losses_in_one_alone_are_not_compared_and_pairs_may_stand_the_other_way_round():
    turned = sorted(renamed({"c": "d"}), key=lambda run: run["entrant"], reverse=True)
    comparison = compared(x=REPORTED, y=turned)
    assert comparison.losses == ("a", "b")
    assert by_change(comparison)["test_accuracy_ncm", "a", "b"] == "same"


def test_what_has_nothing_in_common_is_refused():
    with pytest.raises(
        InputError, match=r"\A--compare: x and y share no loss \(x has a, b and c; y has d, e and f\); "
    ):
        compared(x=REPORTED, y=renamed({"a": "d", "b": "e", "c": "f"}))
    others = []
    for run in REPORTED:
        figures = {key.replace("@0.1", "@0.2").replace("@0.01", "@0.02"): v for key, v in run["metrics"].items()}
        others.append({**run, "metrics": {k: v for k, v in figures.items() if k != "tpr@0.001"}})
    says = (
        r"\A--compare: no false-positive rate in common \(x was measured at 0.1, 0.01; y was measured at 0.2, 0.02\); "
    )
    with pytest.raises(InputError, match=says):
        compared(x=REPORTED, y=others)


def test_without_unseen_people_accuracy_alone_is_compared():
    closed = [{**run, "metrics": {k: v for k, v in run["metrics"].items() if "tpr" not in k}} for run in REPORTED]
    assert [figure.key for figure in compared(x=REPORTED, y=closed).figures] == ["test_accuracy", "test_accuracy_ncm"]


def test_folders_are_called_by_the_ends_of_their_paths_that_differ(lossbench, tmp_path):
    lossbench("run", "--losses", "ce", "--out", tmp_path / "one", *WORDS)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    comparison = read_comparison([tmp_path / "one" / "orl", tmp_path / "two" / "orl"])
    assert comparison.labels == ["one/orl", "two/orl"]
    assert comparison.losses == ("ce",)
    with pytest.raises(InputError, match=r"\A--compare has '\S+/two/\.\./one/orl' twice; name different benchmarks\Z"):
        read_comparison([tmp_path / "two" / ".." / "one" / "orl", tmp_path / "one" / "orl"])
    with pytest.raises(InputError, match=r"\A--compare takes two benchmarks or more, only '\S+/one/orl' is named"):
        read_comparison([tmp_path / "one" / "orl"])
    with pytest.raises(InputError, match=r"\A--compare takes two benchmarks or more, none is named"):
        read_comparison([])
