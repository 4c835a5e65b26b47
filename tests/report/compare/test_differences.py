"""What differs between benchmarks, by name."""

from dataclasses import replace

from support import REPORTED, SETTINGS, changed, compared

from lossbench.report.compare.comparison import side_by_side
from lossbench.report.compare.differences import differences_part


def test_settings_people_and_versions_are_rows_where_they_differ():
    runs = [changed(run, ("people", "train"), 4321) for run in REPORTED]
    runs = [changed(run, ("machine", "device"), "another") for run in runs if run["repeat"] < 3]
    comparison = compared(x=REPORTED, y=runs)
    first, second = ({one.label: one.findings for one in comparison.benchmarks}[label] for label in "xy")
    second = replace(second, settings={**SETTINGS, "lr": 0.001, "fpr": [0.1, 0.01], "jobs": 7})
    part = differences_part(side_by_side({"x": first, "y": second}))
    assert part.headers == ["what", "x", "y"]
    assert part.rows == [
        ["--lr", "0.003", "0.001"],
        ["--fpr", "–", "0.1, 0.01"],
        ["people of train", "20", "4,321"],
        ["repeats done", "4", "3"],
        ["device of the runs", "a CPU of 1984", "another"],
    ]
    assert part.notes == ("All else that is recorded is the same.", "Compared: a, b and c.")


def test_losses_that_are_not_in_all_or_have_changed_are_named():
    runs = [{**run, "plugin": "new"} if run["entrant"] == "a" else run for run in REPORTED if run["entrant"] != "c"]
    part = differences_part(compared(x=REPORTED, y=runs))
    assert part.notes[1:] == (
        "Compared: a and b.", "x also has c.", "The code of a has changed between the benchmarks."
    )  # fmt: skip


def test_nothing_that_differs_is_said():
    part = differences_part(compared(x=REPORTED, y=REPORTED))
    assert (part.headers, part.rows) == ((), [])
    assert part.notes[0] == "Nothing that is recorded differs."
