"""Trainings that end without an error but failed; and healthy ones, which must not be called failed."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import LOSS, Recorder, plugin

from lossbench.benchmark.driver import run_benchmark
from lossbench.config import Config
from lossbench.evaluation.health import STEPS, Outcome, failure_reason
from lossbench.metrics import total_variance
from lossbench.report.tables import text_table
from lossbench.results.metric_fields import shown_in
from lossbench.results.store import read_record
from lossbench.results.study import Study

NORMAL = torch.randn(100, 16, generator=torch.Generator().manual_seed(0))
LINE = torch.randn(100, 1, generator=torch.Generator().manual_seed(1)) * NORMAL[0] + 1e-3 * NORMAL
WELL = Outcome([5.0, 3.0], STEPS, True, NORMAL, 0.5, 48, 24, True)


def test_total_variance_is_that_of_directions():
    assert total_variance(torch.ones(10, 4)) == pytest.approx(0, abs=1e-12)
    assert total_variance(torch.cat([torch.eye(4), -3 * torch.eye(4)])) == pytest.approx(1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({}, None),
        ({"unseen": LINE}, "lie on a line (effective rank 1.0"),
        ({"unseen": torch.ones(100, 16) + 1e-3 * NORMAL}, "are one point"),
        ({"unseen": NORMAL[:4].repeat(25, 1)}, "100 images of unseen people have 4 different embeddings"),
        ({"unseen": LINE, "classes": 2}, None),  # two classes need one direction
        ({"unseen": LINE, "steps": STEPS - 1}, None),  # too early to say
        ({"moved": False}, "no step had a gradient for the backbone"),
        ({"moved": False, "steps": 3}, "no step had a gradient for the backbone"),
        ({"val_accuracy": 2 / 48}, None),  # a loss that falls learns something
        ({"val_accuracy": 2 / 48, "losses": [5.0, 4.99]}, "accuracy on val 0.042 is no better than guessing"),
        ({"val_accuracy": 2 / 48, "losses": [-5.0, -4.0]}, "is no better than guessing"),
        ({"val_accuracy": 2 / 48, "losses": [5.0, 9.0], "scored": False}, None),
        ({"val_accuracy": 9 / 48, "losses": [5.0, 9.0]}, None),  # the loss rises as a margin does
    ],
)
def test_why_a_training_failed(change, says):
    found = failure_reason(replace(WELL, **change))
    assert found is None if says is None else says in found


def test_guessing_is_what_one_guess_in_a_thousand_beats():
    """By an exact sum of binomial probabilities: 8 of 48 right among 24 classes is too good for chance, 7 is not."""
    chance = [sum(math.comb(48, k) * (1 / 24) ** k * (23 / 24) ** (48 - k) for k in range(hits, 49)) for hits in (7, 8)]
    assert chance[0] > 0.001 > chance[1]
    flat = replace(WELL, losses=[5.0, 5.0])
    assert "guessing" in failure_reason(replace(flat, val_accuracy=7 / 48))
    assert failure_reason(replace(flat, val_accuracy=8 / 48)) is None


FORWARD = "\n    def forward(self, embeddings, labels):\n        "
TOGETHER = """unit = torch.nn.functional.normalize(embeddings, dim=1)
        return (1 - unit @ unit.T).mean()

    def logits(self, embeddings):
        return None
"""
ILL = {
    "still": (f"return 0 * {LOSS}", "does not learn: no step had a gradient for the backbone"),
    "cut_off": (
        f"return {LOSS.replace('embeddings', 'embeddings.detach()')}",
        "does not learn: no step had a gradient for the backbone",
    ),
    "aimless": ("return 3 + 1e-6 * embeddings.square().mean()", "does not learn: accuracy on val"),
    "greedy": ("raise MemoryError", "out of memory; try a smaller --batch-size"),
    "huge": ("return embeddings.new_empty(2**50).sum()", "out of memory; try a smaller --batch-size"),
}


def test_trainings_that_come_to_nothing_are_failed_runs(tmp_path):
    specs = [plugin(tmp_path, name, FORWARD + body + "\n") for name, (body, _) in ILL.items()]
    settings = {"identities": 4, "batch_size": 8, "epochs": 17, "repeats": 1, "image_size": 32, "device": "cpu"}
    config = Config(losses=",".join(["ce", *specs]), out=str(tmp_path / "out"), **settings)
    _, records = run_benchmark(config, Recorder())
    found = {record["entrant"]: record for record in records}
    assert found["ce"]["status"] == "finished"
    for name, (_, reason) in ILL.items():
        assert found[name]["status"] == "failed", name
        assert reason in found[name]["reason"], name
        assert "\n" not in found[name]["reason"]
    for name in ("still", "cut_off", "aimless"):
        assert found[name]["epoch"] == 17


def test_a_collapsed_run_is_measured_but_in_no_mean(tmp_path):
    loss = plugin(tmp_path, "together", FORWARD + TOGETHER)
    settings = {"identities": 4, "batch_size": 8, "epochs": 60, "repeats": 1, "image_size": 32, "device": "cpu"}
    _, records = run_benchmark(Config(losses=loss, out=str(tmp_path / "out"), **settings), Recorder())
    record = records[1]
    assert (record["status"], record["epoch"]) == ("failed", 60)
    assert record["reason"].startswith("collapsed: the embeddings of unseen people")
    assert read_record(Path(record["folder"]))["reason"] == record["reason"]
    assert record["metrics"]["test_accuracy_ncm"] >= 0
    assert (Path(record["folder"]) / "weights.safetensors").is_file()
    rows = {row[0]: row[1:] for row in text_table(Study.of(records), shown_in("headline"))[1]}
    assert rows["together"][0] == "0 of 1 (0 %)"
    assert set(rows["together"][2:]) == {"–"}
    assert rows["untrained*"][0] == "1"


def test_healthy_short_trainings_are_not_called_ill(tmp_path):
    """Three of the losses that come nearest to the rules; 13 epochs of 4 steps are the first length that is judged."""
    config = Config(losses="sphereface,triplet,circle", out=str(tmp_path), epochs=13, repeats=1, image_size=32)
    _, records = run_benchmark(config, Recorder())
    assert [r["reason"] for r in records if r["status"] == "failed"] == []
