"""Training curves against plain means of the histories."""

import json
from pathlib import Path

import numpy as np
import pytest

from lossbench.report.figures.training import training_curves
from lossbench.results.study import Study


def history(record):
    return [json.loads(line) for line in Path(record["folder"], "history.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("i", [0, 1])
def test_training_curves_are_means_over_the_repeats(study, i):
    drawing = training_curves(study, []).drawing
    histories = [history(record) for record in study.finished if record["entrant"] == study.entrants[i]]
    losses = [[line["train_loss"] / lines[0]["train_loss"] for line in lines] for lines in histories]
    accuracies = [[line["val_accuracy"] for line in lines] for lines in histories]
    for ax, values in zip(drawing.axes, (losses, accuracies), strict=True):
        epochs, means = [line for line in ax.get_lines() if len(line.get_xdata()) > 1][i].get_xydata().T
        assert epochs.tolist() == list(range(1, len(values[0]) + 1))
        np.testing.assert_allclose(means, np.mean(values, axis=0))
    assert [text.get_text() for text in drawing.axes[1].get_legend().get_texts()] == study.trained


def test_nothing_trained_is_no_figure(study):
    assert training_curves(Study(tuple(study.of_entrant("untrained")), {}), []) is None
