"""The figures of a report: what is drawn where."""

import numpy as np
import pytest

from lossbench.report.plots import tpr_fpr


@pytest.fixture
def run(tmp_path):
    """Returns a function that writes the embeddings of a run with 80 negatives and returns its record."""

    def make(entrant, fprs, seed=0):
        rng = np.random.default_rng(seed)
        folder = tmp_path / f"{entrant}-{seed}"
        folder.mkdir()
        query, distractors = (rng.normal(size=(8, 5)).astype(np.float32) for _ in range(2))
        labels, people = np.repeat([0, 1], 4), np.asarray(["a", "b"])
        np.savez(
            folder / "embeddings.npz", query=query, distractors=distractors, query_labels=labels, query_people=people
        )
        metrics = {f"tpr@{fpr:g}": 0.5 for fpr in fprs}
        return {"entrant": entrant, "repeat": seed, "status": "finished", "metrics": metrics, "folder": str(folder)}

    return make


def markers(drawing):
    """The markers of a drawing: (rate, hollow)."""
    points = [line for line in drawing.axes[0].lines if line.get_marker() == "o"]
    return sorted((float(line.get_xdata()[0]), line.get_markerfacecolor() == "white") for line in points)


def test_operating_points_are_marked_and_thin_ones_hollow(run):
    drawing = tpr_fpr([run("ce", (0.2, 0.05, 0.001)), run("ce", (0.2, 0.05, 0.001), seed=1), run("b", (0.2, 0.05))])
    assert markers(drawing) == [(0.05, True)] * 2 + [(0.2, False)] * 2, "those in common: 4 and 16 negatives above"


def test_a_point_that_the_data_does_not_support_is_not_drawn(run):
    drawing = tpr_fpr([run("ce", (0.2, 1e-6))])
    assert markers(drawing) == [(0.2, False)]
    curve = next(line for line in drawing.axes[0].lines if len(line.get_xdata()) > 1)
    assert 1 / 80 <= min(curve.get_xdata()) < 0.05
