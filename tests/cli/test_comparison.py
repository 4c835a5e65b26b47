"""A comparison for people and as JSON: the same figures, the document alone on standard output."""

import json
import math

import pytest
from support import FORWARD, forward, plugin

from lossbench.cli.comparison import checked
from lossbench.errors import InputError

WORDS = ("--epochs", 2, "--image-size", 32, "--repeats", 2)


def test_the_document_stands_alone_and_says_what_the_table_says(lossbench, tmp_path):
    failing = plugin(tmp_path, "bad", forward("torch.zeros(()) / 0", "raise RuntimeError('out of luck')"))
    words = ("run", "--losses", f"ce,{failing}", "--out", tmp_path / "out", *WORDS)
    code, out, err = lossbench(*words, "--json")
    assert code == 0
    found = json.loads(out)
    folder = tmp_path / "out" / "orl"
    assert (found["benchmark"], found["folder"]) == ("orl", str(folder))
    assert "training 4 runs of 2 epochs" in err
    assert "│" not in err, "the table says the same"
    assert [(one["loss"], one["runs"], one["failed"]) for one in found["losses"]] == [
        ("ce", 2, 0), ("bad", 2, 2), ("untrained", 2, 0),
    ]  # fmt: skip
    assert found["losses"][1]["figures"] == {}
    accuracy = [r["metrics"]["test_accuracy"] for r in found["runs"] if r["entrant"] == "ce"]
    mean = found["losses"][0]["figures"]["test_accuracy"]
    assert mean["mean"] == pytest.approx(sum(accuracy) / 2)
    assert 0 <= mean["low"] <= mean["mean"] <= mean["high"] <= 1
    assert mean["n"] == 2
    bad = [run for run in found["runs"] if run["entrant"] == "bad"]
    assert {(run["status"], run["reason"]) for run in bad} == {("failed", "RuntimeError: out of luck")}
    code, printed, _ = lossbench(*words)
    assert f"{mean['mean']:.3f}" in next(line for line in printed.splitlines() if line.startswith("│ ce "))


def test_what_is_not_a_number_is_null(lossbench, tmp_path):
    words = ("run", "--losses", "ce", "--out", tmp_path, "--epochs", 1, "--image-size", 32, "--repeats", 1)
    _, out, _ = lossbench(*words, "--json")
    found = json.loads(out, parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    figure = next(one for one in found["losses"] if one["loss"] == "ce")["figures"]["tpr@0.1"]
    assert math.isfinite(figure["mean"])
    assert (figure["low"], figure["high"]) == (None, None)


def test_every_loss_failing_is_exit_code_1_after_the_document(lossbench, tmp_path):
    failing = plugin(tmp_path, "bad", forward("torch.zeros(()) / 0", "raise RuntimeError('out of luck')"))
    code, out, _ = lossbench("run", "--losses", failing, "--out", tmp_path / "out", *WORDS, "--json")
    assert code == 1
    assert json.loads(out)["answer"] == ["There is nothing to compare: bad failed in every repeat."]


def test_bad_input_prints_no_document(lossbench, tmp_path):
    code, out, err = lossbench("run", "--losses", "arcfce", "--out", tmp_path, "--json")
    assert (code, out, err.count("\n")) == (2, "", 1)


def test_settings_named_one_by_one_win(tmp_path):
    config = checked({"epochs": 3}, {"epochs": 5, "seed": 7})
    assert (config.epochs, config.seed) == (3, 7)
    mine = plugin(tmp_path, "mine", FORWARD)
    assert checked({"losses": f"ce,{mine}"}).losses == f"ce,{mine}"
    with pytest.raises(InputError, match="no loss called 'arcfce'"):
        checked({"losses": "arcfce"})
    with pytest.raises(InputError, match="--repeats 9 is more than --max-repeats 4; give 4 repeats at most"):
        checked({"until_settled": True, "repeats": 9, "max_repeats": 4})
