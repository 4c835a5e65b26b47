"""The main table, from records whose right answer is known."""

import math

import pytest
from support import STUDY, changed

from lossbench.report.results import cost_of, results
from lossbench.results.study import Study
from lossbench.results.verdicts import verdicts

FOUND = verdicts(STUDY)


def cells(study=STUDY):
    found = results(study, FOUND)
    keys = [column.key for column in found.columns]
    return {row.name: dict(zip(keys, row.cells, strict=True)) for row in found.rows}


def test_a_row_per_loss_with_its_survival():
    rows = {row.name: row for row in results(STUDY, FOUND).rows}
    assert list(rows) == ["a", "b", "c", "untrained"]
    assert (rows["c"].finished, rows["c"].runs, rows["c"].survival) == (3, 4, 0.75)
    assert rows["untrained"].mark == "*"
    assert [row.trained for row in rows.values()] == [True, True, True, False]
    assert sum(span for _, span in results(STUDY, FOUND).groups) == len(rows["a"].cells)


def test_a_cell_has_text_interval_rank_and_bar():
    found = cells()
    accuracy = found["a"]["test_accuracy_ncm"]
    assert accuracy.value == pytest.approx(0.9015)
    assert accuracy.text == "0.902"
    assert accuracy.half.startswith("± ")
    assert [found[name]["test_accuracy_ncm"].rank for name in "abc"] == ["1=", "2", "1="]
    assert found["untrained"]["test_accuracy_ncm"].rank == ""
    assert found["b"]["test_accuracy_ncm"].bar.at < accuracy.bar.at


def test_cost_is_the_mean_of_finished_runs_and_what_is_lacking_is_said():
    found = cells()
    assert (found["a"]["images_per_second"].text, found["a"]["seconds"].text) == ("100", "5.0")
    assert found["a"]["head_parameters"] == ("–", "", None, None, "")
    notes = results(STUDY, FOUND).notes
    assert "No record holds head parameters: older versions of lossbench did not record it." in notes
    runs = [changed(run, ("head_parameters",), 3072) if run["repeat"] else run for run in STUDY.records]
    study = Study(tuple(runs), {})
    assert cells(study)["a"]["head_parameters"].text == "3,072"
    assert "3 of 11 records lack head parameters" in " ".join(results(study, FOUND).notes)


@pytest.mark.parametrize("value", ["many", None, True, math.inf, [1]])
def test_a_cost_that_is_no_number_is_missing(value):
    assert math.isnan(cost_of({"timings": {}, "peak_memory_mib": value}, "peak_memory_mib"))
    assert math.isnan(cost_of({}, "seconds"))
