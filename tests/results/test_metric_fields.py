"""The one table of metrics: every row can be computed and shown, and a new metric is one function and one row."""

import json
import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from support import RECORDS

from lossbench.metrics.exact.directions import unit_rows
from lossbench.metrics.operating_point import DEFAULT_FPRS, FURTHER_FPRS
from lossbench.results import metric_fields
from lossbench.results.metric_fields import (
    METRICS,
    Metric,
    at,
    fewest_above,
    flat_metrics,
    fprs_of,
    metric,
    own_fprs,
    runs_frame,
    shown_in,
    table_at,
    template_metrics,
)
from lossbench.results.metric_inputs import SHARED, Computation
from lossbench.results.store import load_records


def mean_length(query, query_labels):
    """A made-up metric: the length of the mean direction of each query person, averaged."""
    unit = unit_rows(query)
    return torch.stack([unit[query_labels == label].mean(0).norm() for label in query_labels.unique()]).mean().item()


def resampled_length(query, query_labels, drawn):
    """The same in resamples of the people [B]: `drawn` says how often each is in them [B, people]."""
    unit = unit_rows(query).cpu()
    lengths = torch.stack([unit[query_labels.cpu() == label].mean(0).norm() for label in query_labels.cpu().unique()])
    return (drawn.double() * lengths).sum(1) / drawn.sum(1)


def test_a_new_metric_is_one_function_and_one_row(tmp_path, tree, monkeypatch, lossbench):
    resamples = Computation(resampled_length, ("query", "query_labels", "query_drawn"))
    monkeypatch.setattr(
        "lossbench.results.metric_fields.METRICS",
        (
            *METRICS,
            Metric(
                "mean_length",
                "mean length",
                mean_length,
                ("query", "query_labels"),
                shown=("runs", "headline", "verdicts", "highlights", "evaluate"),
                better="more",
                resamples=resamples,
            ),
        ),
    )
    monkeypatch.setattr("lossbench.cli.console._WIDE", 400)  # one table in one part, however slow the machine
    words = ("--losses", "ce,arcface", "--epochs", 2, "--image-size", 32, "--repeats", 2)
    code, out, _ = lossbench("run", *words, "--out", tmp_path)
    assert code == 0
    header = next(line for line in out.splitlines() if "accuracy (class means)" in line)
    assert "mean length" in header
    folder = tmp_path / "orl"
    records = load_records(folder)
    record = json.loads(next(folder.glob("runs/ce-r0-*/run.json")).read_text())
    assert 0 < record["metrics"]["mean_length"] <= 1
    drawn = np.load(next(folder.glob("runs/ce-r0-*/resamples.npz")))
    assert len(drawn["mean_length"]) == len(drawn["tpr@0.1"])
    assert drawn["mean_length"].std() > 0
    column = [cell.strip() for cell in header.split("┃")].index("mean length")
    rows = [line for line in out.splitlines() if line.count("│") == header.count("┃")]
    cells = [line.split("│")[column].strip() for line in rows]
    assert all(re.fullmatch(r"0\.\d{3} ± 0\.\d{3}", cell) for cell in cells), cells
    assert len(cells) == 3

    assert lossbench("report", folder)[0] == 0
    text = (folder / "report.md").read_text()
    assert "| mean length |" in text.split("## Results")[1].split("## Verdict")[0]
    assert "| mean length | ce | arcface |" in text
    tables = {name: pd.read_csv(folder / "tables" / f"{name}.csv") for name in ("runs", "summary", "verdicts", "ranks")}
    found = {(row.entrant, row.repeat): row.mean_length for row in tables["runs"].itertuples()}
    assert found == pytest.approx({(r["entrant"], r["repeat"]): r["metrics"]["mean_length"] for r in records})
    assert "mean_length_low" in tables["summary"]
    assert "mean_length" in set(tables["verdicts"]["figure"])
    assert "mean_length" in tables["ranks"]

    run = next(folder.glob("runs/ce-r0-*"))
    code, out, _ = lossbench("evaluate", run, "--data", tree, "--out", tmp_path / "e.json")
    assert code == 0
    assert "mean length" in out
    (evaluated,) = json.loads((tmp_path / "e.json").read_text())
    length, spread = evaluated["metrics"]["mean_length"], evaluated["spread_over_people"]["mean_length"]
    assert spread > 0
    assert f"{length:.3f} ± {1.96 * spread:.3f}" in out


EVERY = table_at((*DEFAULT_FPRS, *FURTHER_FPRS))


def test_keys_are_there_once():
    assert len({row.key for row in EVERY}) == len(EVERY)


def test_every_input_is_given_or_shared():
    given = {f"{part}{suffix}" for part in ("train", "val", "test", "query", "distractors") for suffix in SUFFIXES}
    given |= {"centers", "test_hits", "val_hits", "fprs", "pair_scores", "pair_same", "pair_folds"}
    computations = [Computation(row.function, row.inputs) for row in EVERY if row.function]
    computations += [row.resamples for row in EVERY if row.resamples] + list(SHARED.values())
    assert {name for computation in computations for name in computation.inputs} <= given | set(SHARED)


SUFFIXES = ("", "_labels", "_people")


def test_what_is_compared_has_a_direction_and_what_is_resampled_its_people():
    assert all(row.better for row in shown_in("verdicts", "highlights"))
    assert {row.key for row in EVERY if row.resamples and row.people == "test"} == {
        "test_accuracy",
        "test_accuracy_ncm",
    }
    assert metric("tpr@0.1").people == "query"


def test_an_unknown_key_stands_for_itself():
    assert metric("from_a_later_version").title == "from_a_later_version"
    assert at("tpr", 0.05) == "tpr@0.05"


def test_flat_metrics_holds_figures_and_timings_and_null_is_nan():
    flat = flat_metrics({"metrics": {"tpr@0.1": None, "nmi": 1}, "timings": {"seconds": 2.5}})
    assert math.isnan(flat.pop("tpr@0.1"))
    assert flat == {"nmi": 1.0, "seconds": 2.5}
    assert flat_metrics({"metrics": None}) == {}


def test_columns_of_a_table_stand_in_its_order():
    assert [row.column for row in shown_in("headline")] == [
        "accuracy", "accuracy (class means)", "ID rate @ FPR 0.1", "@ 0.05", "@ 0.01", "@ 0.001",
    ]  # fmt: skip
    assert [row.key for row in shown_in("gallery")][-2:] == ["dir@0.1", "dir@0.01"]
    assert metric_fields.with_figures([{"metrics": {}}, {"metrics": {"verification_eer": 0.1}}], "verification")


def test_flat_metrics_name_every_operating_point():
    flat = flat_metrics(RECORDS[0])
    assert flat["tpr@0.01"] == 0.5
    assert math.isnan(flat["tpr@0.001"])
    assert flat["query_inter"] == 60.0


def keys(place, fprs):
    return [row.key for row in shown_in(place, fprs=fprs) if row.point is not None]


def test_the_rows_of_operating_points_follow_the_rates():
    fprs = (0.01, 0.001, 1e-4, 1e-5, 1e-6)
    assert keys("points", fprs) == ["tpr@0.01", "tpr@0.001", "tpr@0.0001", "tpr@1e-05", "tpr@1e-06"]
    for place in ("headline", "verdicts", "evaluate", "tracked", "highlights", "tracked_highlights"):
        assert keys(place, fprs) == keys("points", fprs)[:4], place
    assert keys("transfer", fprs) == [f"transfer_fpr@{fpr:g}" for fpr in fprs[:4]]
    assert [row.column for row in shown_in("points", fprs=fprs)][:1] == ["ID rate @ FPR 0.01"]
    assert [row.column for row in shown_in("points", fprs=fprs)][3:] == ["@ 1e-5", "@ 1e-6"]
    assert keys("headline", ()) == []


@pytest.mark.parametrize("further", [(), (1e-4,), FURTHER_FPRS])
def test_two_of_the_usual_headline_are_highlighted_whatever_else_was_measured(further):
    fprs = (*DEFAULT_FPRS, *further)
    assert keys("highlights", fprs) == ["tpr@0.1", "tpr@0.01"]
    assert keys("headline", fprs) == [f"tpr@{fpr:g}" for fpr in DEFAULT_FPRS]


def test_a_metric_is_found_at_any_rate():
    found = metric("tpr@1e-05")
    assert (found.title, found.point, found.negatives) == ("ID rate @ FPR 1e-5", 1e-5, "negatives")
    assert metric("threshold@0.2").shown == ()
    assert metric("dir@0.1").title == "DIR @ FAR 0.1"
    for key in ("tpr@2", "tpr@x", "tpr@nan", "tpr@0.10", "tpr@", "@0.1", "tpr@-0.1"):
        assert metric(key) == Metric(key, key), key


def test_the_rates_of_a_record_are_those_of_its_keys():
    strange = ("tpr@0.10", "tpr@1", "tpr@0", "tpr@nan", "tpr@", "tpr@inf", "dir@0.3", "transfer_tpr@0.2")
    assert own_fprs({"tpr@0.001": 0.5, "tpr@0.2": None, **dict.fromkeys(strange, 0.5)}) == (0.2, 0.001)


def test_records_have_those_rates_in_common_that_every_finished_one_has():
    def record(*fprs, status="finished"):
        return {"status": status, "metrics": {f"tpr@{fpr:g}": 0.5 for fpr in fprs}}

    assert fprs_of([record(0.01, 0.1), record(0.1, 0.01, 1e-4)]) == (0.1, 0.01)
    assert fprs_of([record(0.1), record(0.2, status="failed"), record()]) == (0.1,), "which have none do not count"
    assert fprs_of([record(0.1), record(0.2)]) == ()
    assert fprs_of([]) == fprs_of([record(0.2, status="failed")]) == DEFAULT_FPRS


def test_the_table_of_runs_leaves_out_thresholds_at_any_rate():
    figures = {"tpr@1e-05": 0.5, "threshold@1e-05": 0.3, "transfer_threshold@0.2": 0.1, "made_up": 1.0}
    frame = runs_frame([{"entrant": "ce", "status": "finished", "metrics": figures}])
    assert {"tpr@1e-05", "made_up"} <= set(frame)
    assert not {"threshold@1e-05", "transfer_threshold@0.2"} & set(frame)


def test_every_figure_of_a_real_run_is_within_its_limits(benchmark):
    for record in load_records(benchmark):
        for key, value in flat_metrics(record).items():
            low, high = metric(key).limits
            assert math.isnan(value) or low <= value <= high, key


def test_a_list_of_templates_has_a_tar_at_every_rate():
    first, second = template_metrics((0.001, 1e-5))
    assert (first.key, first.column, second.column) == ("template_tar@0.001", "TAR @ FAR 0.001", "@ 1e-5")
    assert (second.title, second.point, second.limits) == ("TAR @ FAR 1e-5", 1e-5, (0, 1))
    records = [{"status": "finished", "metrics": {"template_negatives": 200_000}}]
    assert [fewest_above(metric, records) for metric in (first, second)] == [None, 2], "thin with two above"
