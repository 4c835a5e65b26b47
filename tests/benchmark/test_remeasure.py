"""A finished run whose measuring has changed is measured again from its weights, never trained again."""

import pytest
from support import bench, plugin


@pytest.mark.parametrize("losses", ["ce,arcface", "triplet"])
def test_a_run_whose_measuring_has_changed_is_measured_again_to_the_same_figures(tmp_path, monkeypatch, losses):
    folder, first, _ = bench(tmp_path, losses, repeats=1)
    arrays = {path: path.read_bytes() for path in folder.glob("runs/*/*") if path.suffix in (".npz", ".safetensors")}
    monkeypatch.setattr("lossbench.benchmark.fingerprints.MEASURING", ("evaluation/*.py",))
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


def test_a_failed_run_stays_failed_when_measuring_changes_and_is_trained_when_asked_for(tmp_path, monkeypatch):
    path = plugin(tmp_path, "mine", "\n    def forward(self, embeddings, labels):\n        raise KeyError('mine')\n")
    _, first, _ = bench(tmp_path / "out", path, repeats=1)
    monkeypatch.setattr("lossbench.benchmark.fingerprints.MEASURING", ("evaluation/*.py",))
    _, second, _ = bench(tmp_path / "out", path, repeats=1)
    assert first[1]["reason"] == second[1]["reason"] == "KeyError: 'mine'"
    assert first[1]["measuring"] != second[1]["measuring"]
    monkeypatch.setattr("lossbench.benchmark.fingerprints.MEASURING", ("metrics/*.py",))
    _, _, heard = bench(tmp_path / "out", path, repeats=1, retry_failed=True)
    assert heard.runs == 1, "trained again, not only measured"


def test_a_run_without_weights_is_trained_again_and_that_is_said(tmp_path, monkeypatch):
    folder, first, _ = bench(tmp_path, "ce", repeats=1)
    next(folder.glob("runs/ce-*/weights.safetensors")).unlink()
    monkeypatch.setattr("lossbench.benchmark.fingerprints.MEASURING", ("evaluation/*.py",))
    _, second, heard = bench(tmp_path, "ce", repeats=1)
    assert len(heard.trained) == 2
    assert any("ce, repeat 1, is trained again:" in note and "cannot be read" in note for note in heard.notes)
    assert first[1]["metrics"] == second[1]["metrics"]
