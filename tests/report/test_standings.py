"""Which operating point, losses and repeat a figure with little room shows, from records made for it."""

import pytest

from lossbench.report.standings import by_rate, first_runs, for_panels, main_point
from lossbench.results.study import Study


@pytest.fixture
def run(tmp_path):
    """Returns a function that writes a run with or without embeddings and returns its record."""

    def make(entrant, rates=(), repeat=0, negatives=2000, status="finished", embeddings=True):
        folder = tmp_path / f"{entrant}-{repeat}"
        folder.mkdir()
        if embeddings:
            (folder / "embeddings.npz").touch()
        metrics = {f"tpr@{fpr:g}": rate for fpr, rate in dict(rates).items()} | {"negatives": negatives}
        return {"entrant": entrant, "repeat": repeat, "status": status, "metrics": metrics, "folder": str(folder)}

    return make


def study(*records):
    return Study(records, {})


@pytest.mark.parametrize(("negatives", "point"), [(2000, 0.01), (200, 0.1), (50, 0.1), (200_000, 0.001)])
def test_the_point_is_the_lowest_that_ten_negatives_decide(run, negatives, point):
    rates = {fpr: 0.5 if fpr * negatives >= 1 else None for fpr in (0.1, 0.01, 0.001)}
    assert main_point(study(run("a", rates, negatives=negatives))) == point


def test_without_a_supported_rate_there_is_no_point(run):
    assert main_point(study(run("a", {0.1: None}, negatives=5))) is None


def test_losses_are_ordered_by_their_mean_over_repeats(run):
    records = [run("low", {0.1: 0.1}), run("none", {0.1: None}), run("untrained", {0.1: 1.0})]
    records += [run("high", {0.1: 0.2}), run("high", {0.1: 1.0}, repeat=1), run("mid", {0.1: 0.5})]
    assert by_rate(study(*records), 0.1) == ["high", "mid", "low", "none"]
    assert by_rate(study(*records), None) == ["low", "none", "high", "mid"]


def test_the_repeat_is_the_first_that_most_have_finished(run):
    records = [run("a"), run("b", embeddings=False), run("c", status="failed")]
    records += [run(name, repeat=repeat) for repeat in (2, 1) for name in ("b", "c")]
    assert first_runs(records) == [(r["entrant"], r) for r in records if r["repeat"] == 1]
    assert first_runs(records[1:3]) == []


def test_many_losses_are_shown_by_their_ends_and_said_to_be_left_out(run):
    names = [f"l{i}" for i in range(12)]
    records = [run("untrained"), *(run(name, {0.1: i / 12}) for i, name in enumerate(names))]
    runs = first_runs(records)
    shown, said = for_panels(study(*records), runs)
    assert [name for name, _ in shown] == ["l11", "l10", "l9", "l8", "l7", "l1", "l0", "untrained"]
    assert all(record["entrant"] == name for name, record in shown)
    assert said == (
        "Shown are the 5 best losses by identification rate at FPR 0.1, the two worst and the untrained backbone; "
        "the other 5 are left out."
    )
    few, nothing = for_panels(study(*records), runs[:8])
    assert ([name for name, _ in few], nothing) == ([*names[:7], "untrained"], "")
