"""A finished run's model measured on people: as the run measured itself, and the embeddings that it gives."""

import json
import shutil

import numpy as np
import pytest
import torch
from support import run_of

from lossbench.data.images.store import open_store
from lossbench.data.tree import read_images
from lossbench.results.store import find_runs
from lossbench.results.weights import load_backbone


def test_on_its_own_people_it_says_what_the_run_said(lossbench, trained, tree):
    code, out, err = lossbench("evaluate", trained, "--data", tree)
    assert (code, err) == (0, "")
    assert "triplet r0" in out
    for entrant in ("ce", "triplet", "untrained"):
        folder = run_of(trained, entrant)
        record = json.loads((folder / "run.json").read_text())
        (file,) = (folder / "evaluations").glob("faces-*.json")
        found = json.loads(file.read_text())
        assert found["people_with_names_of_the_training"] == []
        for name, figure in found["metrics"].items():
            assert record["metrics"][name] == figure, name
        resamples = np.load(folder / "resamples.npz")
        for name, told in found["spread_over_people"].items():
            drawn = resamples[name][~np.isnan(resamples[name])]
            spread = np.std(drawn, ddof=1) if len(drawn) > 1 else 0.0
            assert (told is None) == (spread < 1e-12), "resamples that are all alike do not show it"
            assert told is None or told == pytest.approx(spread)
        assert any(found["spread_over_people"].values()), entrant


def test_people_of_a_run_without_embeddings_are_measured_and_that_they_may_be_known_is_said(
    lossbench, trained, tree, tmp_path
):
    passed_on = tmp_path / "ce-r0"
    shutil.copytree(run_of(trained, "ce"), passed_on, ignore=shutil.ignore_patterns("embeddings.npz", "evaluations"))
    note = (
        "note: ce r0 has no embeddings.npz, which lists its training people: whether these are among them is not known"
    )
    code, out, err = lossbench("evaluate", passed_on, "--data", tree)
    assert (code, err) == (0, "")
    assert note in out.splitlines()
    (file,) = (passed_on / "evaluations").glob("faces-*.json")
    assert json.loads(file.read_text())["people_with_names_of_the_training"] is None
    code, out, _ = lossbench("embed", passed_on, tree / "query", "--out", tmp_path / "e.npz")
    assert code == 0
    assert note in out.splitlines()


def test_embed_writes_what_the_model_gives(lossbench, trained, tree, tmp_path):
    run = run_of(trained, "ce")
    code, out, _ = lossbench("embed", run, tree / "query", "--out", tmp_path / "e.npz")
    assert code == 0
    assert "[8, 128]" in out
    assert "note" not in out
    saved = np.load(tmp_path / "e.npz")
    assert saved["files"].tolist() == [f"p{p}/{i}.jpg" for p in (4, 5) for i in range(4)]
    own = np.load(run / "embeddings.npz")
    np.testing.assert_allclose(saved["embeddings"], own["query"], rtol=1e-5, atol=1e-6)
    backbone = load_backbone(find_runs([run])[0])
    files, _ = read_images(tree / "query")
    pixels = torch.from_numpy(open_store(files, 32).pixels)
    with torch.no_grad():
        again = backbone(pixels.permute(0, 3, 1, 2).float() / 255)
    np.testing.assert_allclose(saved["embeddings"], again.numpy(), rtol=1e-4, atol=1e-5)
