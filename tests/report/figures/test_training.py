"""Training curves against plain means of the histories."""

import json
from pathlib import Path

import numpy as np
import pytest

from lossbench.report.figures.training import training_curves, with_two_ticks
from lossbench.results.study import Study


def history(record):
    return [json.loads(line) for line in Path(record["folder"], "history.jsonl").read_text().splitlines()]


def band(ax, i):
    """The lower and the upper edge of a band."""
    points = ax.collections[i].get_paths()[0].vertices
    xs = sorted(set(points[:, 0]))
    return [[edge(points[points[:, 0] == x, 1]) for x in xs] for edge in (min, max)]


@pytest.mark.parametrize("i", [0, 1])
def test_training_curves_are_means_over_the_repeats(study, i):
    drawing = training_curves(study, []).drawing
    histories = [history(record) for record in study.finished if record["entrant"] == study.entrants[i]]
    losses = [[line["train_loss"] / lines[0]["train_loss"] for line in lines] for lines in histories]
    accuracies = [[line["val_accuracy"] for line in lines] for lines in histories]
    for ax, values in zip(drawing.axes, (losses, accuracies), strict=True):
        epochs, means = ax.get_lines()[i].get_xydata().T
        assert epochs.tolist() == list(range(1, len(values[0]) + 1))
        np.testing.assert_allclose(means, np.mean(values, axis=0))
        np.testing.assert_allclose(band(ax, i), [np.min(values, axis=0), np.max(values, axis=0)])
        assert [text.get_text() for text in ax.texts] == study.trained


def test_a_caption_speaks_of_bands_where_there_are_some(study):
    assert "bands are their range" in training_curves(study, []).caption
    once = Study(tuple(r for r in study.finished if r["repeat"] == 0), {})
    assert "There is one repeat, so there are no bands" in training_curves(once, []).caption


def test_epochs_are_whole_and_the_loss_has_two_labels(study):
    drawing = training_curves(study, []).drawing
    drawing.canvas.draw()
    loss, accuracy = drawing.axes
    for ax in (loss, accuracy):
        assert all(float(tick).is_integer() for tick in ax.get_xticks())
    low, high = loss.get_ylim()
    labels = [t for t in (0.1, 0.2, 0.5, 1.0, 2.0) if low <= t <= high]
    assert len(labels) >= 2


@pytest.mark.parametrize(
    ("limits", "low"), [((0.6, 1.05), 0.5), ((0.9, 0.99), 0.2), ((0.3, 1.05), 0.3), ((1e-4, 1.05), 1e-4), ((3, 4), 1)]
)
def test_a_short_logarithmic_axis_is_lengthened(limits, low):
    assert with_two_ticks(*limits) == (pytest.approx(low), limits[1])


def test_nothing_trained_is_no_figure(study):
    assert training_curves(Study(tuple(study.of_entrant("untrained")), {}), []) is None


def test_a_mean_ends_where_the_shortest_repeat_does(tmp_path):
    records = []
    for repeat, epochs in enumerate((5, 3)):
        folder = tmp_path / str(repeat)
        folder.mkdir()
        lines = [{"epoch": i + 1, "train_loss": 2.0 - i / 10, "val_accuracy": 0.5} for i in range(epochs)]
        (folder / "history.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        shared = {"entrant": "ce", "repeat": repeat, "status": "finished", "metrics": {}}
        records.append({**shared, "folder": str(folder)})
    drawing = training_curves(Study(tuple(records), {}), []).drawing
    assert [ax.get_lines()[0].get_xdata().tolist() for ax in drawing.axes] == [[1, 2, 3]] * 2
