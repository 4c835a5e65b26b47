"""A finished run whose measuring has changed is measured again from its weights, never trained again."""

from pathlib import Path

import pytest
from support import FORWARD, bench, copied_bench, figures, plugin

from lossbench.evaluation.measure import measure
from lossbench.results.history import read_history
from lossbench.results.metric_fields import own_fprs
from lossbench.results.study import Study

ONLY_EVALUATION = ("lossbench.benchmark.fingerprints.MEASURING", ("evaluation/*.py",))  # other measuring code
PAIRS = "2\t1\np4\t0\t1\np4\t0\tp5\t1\np4\t2\t3\np5\t2\tp4\t3\n"
UNTOUCHED = ("weights.safetensors", "history.jsonl", "embeddings.npz")
TRAINED = ("weights_sha256", "training", "timings", "epoch", "hash")  # what a record says of the training


@pytest.fixture
def on_tree(tree, tmp_path):
    """The settings of a short benchmark on a tree, and its verification pairs."""
    (tmp_path / "pairs.txt").write_text(PAIRS)
    settings = {"data": str(tree), "batch_size": 8, "backbone": "tiny", "epochs": 1, "repeats": 1, "threads": 1}
    return settings, {"pairs": str(tmp_path / "pairs.txt")}


@pytest.mark.parametrize("losses", ["ce,arcface", "triplet"])
def test_a_run_whose_measuring_has_changed_is_measured_again_to_the_same_figures(tmp_path, monkeypatch, losses):
    folder, first, _ = bench(tmp_path, losses, repeats=1)
    arrays = {path: path.read_bytes() for path in folder.glob("runs/*/*") if path.suffix in (".npz", ".safetensors")}
    monkeypatch.setattr(*ONLY_EVALUATION)
    _, second, heard = bench(tmp_path, losses, repeats=1)
    assert heard.trained == []
    assert (heard.runs, heard.skipped) == (0, 0)
    assert "measured again, not trained: only the measuring has changed" in heard.notes[0]
    changed = {"measuring", "protocol_hash"}
    for before, after in zip(first, second, strict=True):
        assert {key for key in before if before[key] != after[key]} == changed
    assert {path: path.read_bytes() for path in arrays} == arrays
    _, third, heard = bench(tmp_path, losses, repeats=1)
    assert (third, heard.skipped, heard.notes) == (second, len(second), [])


def test_pairs_and_flip_added_to_finished_runs_give_the_figures_of_a_new_benchmark(tmp_path, on_tree):
    settings, pairs = on_tree
    _, plain, _ = bench(tmp_path / "out", "ce,triplet", **settings)
    _, paired, heard = bench(tmp_path / "out", "ce,triplet", **settings, **pairs)
    assert heard.trained == []
    _, flipped, heard = bench(tmp_path / "out", "ce,triplet", **settings, **pairs, flip=True)
    assert heard.trained == []
    _, new, heard = bench(tmp_path / "new", "ce,triplet", **settings, **pairs, flip=True)
    assert len(heard.trained) == 2
    assert figures(flipped) == figures(new)
    for without, one, other, fresh in zip(plain, paired, flipped, new, strict=True):
        assert without["metrics"].items() <= one["metrics"].items(), "pairs add figures and change none"
        assert one["metrics"]["verification_threshold"] != other["metrics"]["verification_threshold"]
        assert (other["protocol_hash"], other["measuring"]) == (fresh["protocol_hash"], fresh["measuring"])


def test_a_run_that_dies_while_it_is_measured_again_keeps_its_training(tmp_path, on_tree):
    """In worker processes: the plugin ends its process where a file lies, which it does once all is trained."""
    settings, pairs = on_tree
    deadly = f"""{FORWARD}
    def logits(self, embeddings):
        import os
        if os.path.exists({str(tmp_path / "deadly")!r}):
            os._exit(3)
        return embeddings @ self.weight.T
"""
    losses = f"ce,{plugin(tmp_path, 'mine', deadly)}"
    _, first, _ = bench(tmp_path / "out", losses, **settings)
    (tmp_path / "deadly").touch()
    _, second, heard = bench(tmp_path / "out", losses, **settings, **pairs, jobs=2)
    assert heard.trained == []
    died = second[2]
    assert [record["status"] for record in second] == ["finished", "finished", "failed"]
    assert (died["reason"], died["metrics"]) == ("its process was ended with exit code 3", {})
    assert died["unmeasured"] is True
    assert {key: died.get(key) for key in TRAINED} == {key: first[2][key] for key in TRAINED}
    (tmp_path / "deadly").unlink()
    _, third, heard = bench(tmp_path / "out", losses, **settings, **pairs, retry_failed=True)
    assert (heard.trained, heard.skipped) == ([], 2)
    assert "unmeasured" not in third[2]
    _, new, _ = bench(tmp_path / "new", losses, **settings, **pairs)
    assert figures(third) == figures(new)


@pytest.mark.parametrize("finished", [False, True], ids=["after training", "again"])
def test_measuring_that_raises_keeps_the_training_and_is_repeated_alone(tmp_path, monkeypatch, finished):
    """Where it was finished before, and where it was not."""
    options = {"epochs": 1, "repeats": 1}
    _, sound, _ = copied_bench(tmp_path / "sound", "ce", **options)
    if finished:
        copied_bench(tmp_path / "out", "ce", **options)
        monkeypatch.setattr(*ONLY_EVALUATION)

    def raises(backbone, head, *words, **named):
        if head is not None:
            raise ValueError("no figures today")
        return measure(backbone, head, *words, **named)

    with monkeypatch.context() as patched:
        patched.setattr("lossbench.benchmark.execute.measure", raises)
        folder, broken, heard = bench(tmp_path / "out", "ce", **options)
    assert len(heard.trained) == (0 if finished else 1)
    failed = broken[1]
    assert (failed["status"], failed["reason"]) == ("failed", "ValueError: no figures today")
    assert (failed["metrics"], failed["unmeasured"]) == ({}, True)
    assert failed["weights_sha256"] == sound[1]["weights_sha256"]
    assert "no figures today" in next(folder.glob("runs/ce-*/traceback.txt")).read_text()
    _, still, heard = bench(tmp_path / "out", "ce", **options)
    assert (still, heard.trained, heard.skipped) == (broken, [], 2)
    _, measured, heard = bench(tmp_path / "out", "ce", **options, retry_failed=True)
    assert (heard.trained, heard.skipped) == ([], 1)
    assert measured[1]["status"] == "finished"
    assert "unmeasured" not in measured[1]
    assert figures(measured) == figures(sound)


def test_weights_beside_a_run_that_failed_in_training_are_not_taken_for_its_model(tmp_path, monkeypatch):
    fails = f"""
    def forward(self, embeddings, labels):
        import os
        if os.path.exists({str(tmp_path / "broken")!r}):
            raise KeyError('mine')
        return margin_softmax(embeddings, self.weight, labels, lambda own: own, 30.0)
"""
    path, options = plugin(tmp_path, "mine", fails), {"epochs": 1, "repeats": 1}
    _, first, _ = bench(tmp_path / "out", path, **options)
    (tmp_path / "broken").touch()
    _, second, _ = bench(tmp_path / "out", path, **options, force=True)
    assert (Path(first[1]["folder"]) / "weights.safetensors").exists(), "of the first training"
    (tmp_path / "broken").unlink()
    monkeypatch.setattr(*ONLY_EVALUATION)
    _, third, heard = bench(tmp_path / "out", path, **options)
    assert heard.trained == []
    assert second[1]["measuring"] != third[1]["measuring"]
    for record in (second[1], third[1]):
        assert (record["status"], record["reason"], record["metrics"]) == ("failed", "KeyError: 'mine'", {})
        assert "weights_sha256" not in record
    _, fourth, heard = bench(tmp_path / "out", path, **options, retry_failed=True)
    assert len(heard.trained) == 1
    assert fourth[1]["metrics"] == first[1]["metrics"]


def test_a_failed_run_stays_failed_when_measuring_changes_and_is_trained_when_asked_for(tmp_path, monkeypatch):
    path = plugin(tmp_path, "mine", "\n    def forward(self, embeddings, labels):\n        raise KeyError('mine')\n")
    _, first, _ = bench(tmp_path / "out", path, repeats=1)
    monkeypatch.setattr(*ONLY_EVALUATION)
    _, second, _ = bench(tmp_path / "out", path, repeats=1)
    assert first[1]["reason"] == second[1]["reason"] == "KeyError: 'mine'"
    assert first[1]["measuring"] != second[1]["measuring"]
    monkeypatch.setattr("lossbench.benchmark.fingerprints.MEASURING", ("metrics/*.py",))
    _, _, heard = bench(tmp_path / "out", path, repeats=1, retry_failed=True)
    assert heard.runs == 1, "trained again, not only measured"


def test_a_run_without_weights_is_trained_again_and_that_is_said(tmp_path, monkeypatch):
    folder, first, _ = copied_bench(tmp_path, "ce", repeats=1)
    next(folder.glob("runs/ce-*/weights.safetensors")).unlink()
    monkeypatch.setattr(*ONLY_EVALUATION)
    _, second, heard = bench(tmp_path, "ce", repeats=1)
    assert len(heard.trained) == 2
    assert any("ce, repeat 1, is trained again:" in note and "cannot be read" in note for note in heard.notes)
    assert first[1]["metrics"] == second[1]["metrics"]


def test_other_operating_points_measure_finished_runs_again_and_train_none(tmp_path):
    _, usual, _ = bench(tmp_path / "out", "ce,triplet", repeats=1)
    files = {path: path.read_bytes() for path in tmp_path.glob("out/orl/runs/*/*") if path.name in UNTOUCHED}
    _, asked, heard = bench(tmp_path / "out", "ce,triplet", repeats=1, fpr=(1e-4, 0.01))
    assert (heard.trained, heard.runs) == ([], 0)
    assert "3 runs are measured again, not trained: only the measuring has changed" in heard.notes
    assert [{key: record.get(key) for key in TRAINED} for record in asked] == [
        {key: record.get(key) for key in TRAINED} for record in usual
    ]
    assert {path: path.read_bytes() for path in files} == files
    _, new, heard = bench(tmp_path / "new", "ce,triplet", repeats=1, fpr=(0.01, 1e-4))
    assert len(heard.trained) == 4
    assert figures(asked) == figures(new)
    for before, after in zip(usual, asked, strict=True):
        assert own_fprs(before["metrics"]) == (0.1, 0.05, 0.01, 0.001)
        assert own_fprs(after["metrics"]) == (0.01, 1e-4)
        assert after["metrics"]["tpr@0.0001"] is None, "9,200 negatives do not support it"
        both = before["metrics"].keys() & after["metrics"].keys()
        assert {key: before["metrics"][key] for key in both} == {key: after["metrics"][key] for key in both}
    assert Study.of(asked).fprs == (0.01, 1e-4)
    _, still, heard = bench(tmp_path / "out", "ce,triplet", repeats=1, fpr=(0.01, 1e-4))
    assert (still, heard.trained, heard.skipped, heard.notes) == (asked, [], 3, []), "in whatever order they are typed"
    _, back, heard = bench(tmp_path / "out", "ce,triplet", repeats=1)
    assert (figures(back), heard.trained) == (figures(usual), [])


def test_tracked_runs_are_not_trained_again_for_other_operating_points(tmp_path):
    _, tracked, _ = bench(tmp_path, "ce", repeats=1, track=True, fpr=(0.2, 0.05))
    assert own_fprs(read_history(tracked[1])[-1]["tracked"]) == (0.2, 0.05)
    _, other, heard = bench(tmp_path, "ce", repeats=1, track=True)
    assert heard.trained == []
    assert own_fprs(other[1]["metrics"]) == (0.1, 0.05, 0.01, 0.001)
    assert own_fprs(read_history(other[1])[-1]["tracked"]) == (0.2, 0.05)
