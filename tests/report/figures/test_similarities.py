"""The histograms of similarities against whole matrices."""

import numpy as np
import pytest

from lossbench.report.figures.similarities import similarities, similarity_counts
from lossbench.results.study import Study


def test_similarities_are_counted_once_per_pair_in_blocks_too(monkeypatch):
    monkeypatch.setattr("lossbench.report.figures.similarities._COLUMNS", 37)
    rng = np.random.default_rng(0)
    labels = np.arange(600) % 7  # more than one block of 512
    saved = {"query": rng.normal(size=(600, 3)), "query_labels": labels, "distractors": rng.normal(size=(40, 3))}
    edges = np.linspace(-1, 1, 11)
    query, other = (saved[name] / np.linalg.norm(saved[name], axis=1)[:, None] for name in ("query", "distractors"))
    i, j = np.triu_indices(600, 1)
    cosines, same = np.sum(query[i] * query[j], axis=1), labels[i] == labels[j]
    negatives = np.concatenate([cosines[~same], (query @ other.T).ravel()])
    expected = [np.histogram(values.clip(-1, 1), edges)[0] for values in (cosines[same], negatives)]
    np.testing.assert_array_equal(similarity_counts(saved, edges), expected)


def test_a_panel_shows_both_areas_and_the_mean_thresholds_on_shared_axes(study):
    made = [
        {
            **record,
            "metrics": {**record["metrics"], "threshold@0.1": 0.2 + 0.1 * record["repeat"], "threshold@0.01": 0.5},
        }
        for record in study.finished
    ]
    drawing = similarities(Study(tuple(made), {}), []).drawing
    axes = [ax for ax in drawing.axes if ax.axison]
    assert [ax.get_title(loc="left") for ax in axes] == study.entrants
    assert len({(ax.get_xlim(), ax.get_ylim()) for ax in axes}) == 1
    edges = np.linspace(-1, 1, 51)
    for ax, name in zip(axes, study.entrants, strict=True):
        own = [np.load(f"{r['folder']}/embeddings.npz") for r in made if r["entrant"] == name]
        same, different = sum(similarity_counts(dict(one), edges) for one in own)
        areas = [patch.get_data().values for patch in ax.patches]
        np.testing.assert_allclose(areas[0], same / same.sum())
        np.testing.assert_allclose(areas[2], different / different.sum())
        assert [line.get_xdata()[0] for line in ax.lines] == pytest.approx([0.25, 0.5])
    texts = [text.get_text() for text in drawing.legends[0].get_texts()]
    assert texts == ["same person", "different people", "threshold at FPR 0.1", "threshold at FPR 0.01"]


def test_one_collapsed_loss_does_not_flatten_the_others(study, tmp_path):
    rng, labels = np.random.default_rng(0), np.arange(20) // 4
    query = (rng.normal(size=(20, 8)) * 1e-3 + 1).astype(np.float32)
    people = np.array([f"p{i}" for i in range(5)])
    np.savez(tmp_path / "embeddings.npz", query=query, query_labels=labels, query_people=people, distractors=query)
    collapsed = {**study.finished[0], "entrant": "collapsed", "folder": str(tmp_path)}
    top = similarities(study, []).drawing.axes[0].get_ylim()[1]
    beside = similarities(Study((*study.finished, collapsed), {}), []).drawing.axes[0].get_ylim()[1]
    assert beside < 3 * top, "its peak is 1"
