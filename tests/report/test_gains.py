"""How much choosing the epoch on test flatters, and scale against margin: from figures whose answer is known."""

import json
import math

import pytest

from lossbench.metrics.uncertainty import Estimate
from lossbench.report.gains import gap_table, scale_and_margin, selection_gap, signed, split_table
from lossbench.report.markup import part_lines
from lossbench.results.study import Study


def study_of(tmp_path, entrants, histories=None):
    """Runs of 3 repeats: accuracy per entrant, the same in all repeats but for a shift shared by all entrants."""
    records = []
    for name, (accuracy, twin) in entrants.items():
        for repeat in range(3):
            folder = tmp_path / f"{name.replace(':', '_')}-{repeat}"
            folder.mkdir()
            lines = (histories or {}).get(name, [])
            (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
            records.append(
                {
                    "entrant": name,
                    "repeat": repeat,
                    "status": "finished",
                    "plain_twin": twin,
                    "folder": str(folder),
                    "people": {"test": 24, "query": 8},
                    "timings": {},
                    "metrics": {"test_accuracy_ncm": accuracy + 0.01 * repeat, "test_accuracy": accuracy},
                }
            )
    return Study(tuple(records), {})


def test_the_gain_is_the_scales_and_the_margins(tmp_path):
    entrants = {
        "ce": (0.5, None),
        "arcface": (0.8, "arcface:margin=0.0"),
        "arcface:margin=0.0": (0.6, None),
        "cosface": (0.7, "cosface:margin=0.0"),  # whose twin does not take part
    }
    study = study_of(tmp_path, entrants)
    row = split_table(study).iloc[0]
    assert (row["figure"], row["loss"]) == ("test_accuracy_ncm", "arcface")
    assert [row["gain"], row["scale"], row["margin"]] == pytest.approx([0.3, 0.1, 0.2])
    text = "\n".join(part_lines(scale_and_margin(study)))
    assert "| accuracy (class means) | arcface | +0.300 ± 0.000 | +0.100 ± 0.000 | +0.200 ± 0.000 |" in text
    assert "cosface" not in text
    assert scale_and_margin(Study((), {})) is None


def test_best_on_test_flatters(tmp_path):
    def line(epoch, val, test):
        tracked = {"test_accuracy": test, "tpr@0.1": None}
        return {"epoch": epoch, "train_loss": 1.0, "val_accuracy": val, "tracked": tracked}

    lines = [line(1, 0.2, 0.3), line(2, 0.6, 0.5), line(3, 0.6, 0.9), line(4, 0.4, 0.7)]
    study = study_of(tmp_path, {"ce": (0.7, None)}, {"ce": lines})
    (row,) = gap_table(study).to_dict("records")
    names = ("last", "best_on_val", "best_on_test", "test_minus_last", "test_minus_val")
    assert [row[name] for name in names] == pytest.approx([0.7, 0.5, 0.9, 0.2, 0.4])
    assert "| accuracy | ce | 0.700 ± 0.000 | 0.500 ± 0.000 | 0.900 ± 0.000 |" in "\n".join(
        part_lines(selection_gap(study))
    )


def test_a_tracked_and_deconfounded_benchmark(lossbench, tmp_path, monkeypatch):
    monkeypatch.setattr("lossbench.report.figures.write.write_figures", lambda *_: [])
    fast = ("--epochs", 2, "--image-size", 32, "--repeats", 1, "--out", tmp_path)
    assert lossbench("run", "--losses", "cosface", "--track", "--deconfound", *fast)[0] == 0
    assert lossbench("report", tmp_path / "orl")[0] == 0
    text = (tmp_path / "orl" / "report.html").read_text()
    assert "<h3>Scale and margin separated</h3>" in text
    assert "<h3>How much choosing the epoch on test flatters</h3>" in text
    for folder in (tmp_path / "orl" / "runs").glob("cosface-*"):
        record = json.loads((folder / "run.json").read_text())
        last = json.loads((folder / "history.jsonl").read_text().splitlines()[-1])["tracked"]
        assert last["test_accuracy"] == record["metrics"]["test_accuracy"]
        assert last.items() <= record["metrics"].items()
        assert {"tpr@0.1", "tpr@0.001"} <= set(last)
        assert not math.isnan(last["test_accuracy"])


def test_tracking_changes_nothing_else(lossbench, tmp_path):
    fast = ("--losses", "arcface", "--epochs", 3, "--image-size", 32, "--repeats", 1)
    lossbench("run", *fast, "--out", tmp_path / "plain")
    lossbench("run", *fast, "--out", tmp_path / "tracked", "--track")
    metrics = [
        json.loads(next((tmp_path / name).glob("orl/runs/arcface-*/run.json")).read_text())["metrics"]
        for name in ("plain", "tracked")
    ]
    assert metrics[0] == metrics[1]


def test_the_gap_is_that_of_the_rates_tracked_whatever_was_measured_since(tmp_path):
    lines = [
        {"epoch": e, "train_loss": 1.0, "val_accuracy": e / 9, "tracked": {"test_accuracy": 0.5, "tpr@0.2": e / 10}}
        for e in (1, 3, 2)
    ]
    study = study_of(tmp_path, {"ce": (0.7, None)}, {"ce": lines})
    for record in study.records:
        record["metrics"] |= {"tpr@0.01": 0.4, "tpr@1e-05": 0.1}
    text = "\n".join(part_lines(selection_gap(study)))
    assert "| ID rate @ FPR 0.2 | ce | 0.200 ± 0.000 | 0.300 ± 0.000 | 0.300 ± 0.000 |" in text
    assert "The false-positive rates tracked are those of the training (0.2)" in text
    for record in study.records:
        del record["metrics"]["tpr@0.01"], record["metrics"]["tpr@1e-05"]
        record["metrics"]["tpr@0.2"] = 0.2
    assert "The false-positive rates tracked" not in "\n".join(part_lines(selection_gap(study)))


def test_a_difference_that_rounds_to_zero_has_no_sign():
    found = [signed(Estimate(mean, 0.0001, 3, 0.0, 7, 3), True) for mean in (1e-17, -1e-17, -0.0004, 0.0006, -0.0006)]
    assert found == ["0.000 ± 0.032"] * 3 + ["+0.001 ± 0.032", "−0.001 ± 0.032"]
