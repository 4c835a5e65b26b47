"""The curve of rates against sorted scores; its operating points."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lossbench.report.figures.rates import tpr_fpr
from lossbench.results.study import Study


def pairs(record):
    """Return the cosines of same-person pairs and of all others, by the whole matrix at once."""
    saved = np.load(f"{record['folder']}/embeddings.npz")
    query, other = (saved[name] / np.linalg.norm(saved[name], axis=1)[:, None] for name in ("query", "distractors"))
    i, j = np.triu_indices(len(query), 1)
    cosines, same = (query @ query.T)[i, j], saved["query_labels"][i] == saved["query_labels"][j]
    return cosines[same], np.concatenate([cosines[~same], (query @ other.T).ravel()])


def curves(ax):
    """The lines of a drawing: seaborn draws them in the order of the entrants, and empty ones for the legend."""
    return [line for line in ax.get_lines() if len(line.get_xdata()) > 1]


@pytest.mark.parametrize("i", range(3))
def test_the_curve_of_rates_is_that_of_sorted_scores(study, i):
    (ax,) = tpr_fpr(study, []).drawing.axes
    fprs, means = curves(ax)[i].get_xydata().T
    expected = []
    for record in study.finished:
        if record["entrant"] == study.entrants[i]:
            positives, negatives = pairs(record)
            cuts = np.sort(negatives)[::-1][[math.floor(fpr * len(negatives) + 1e-9) for fpr in fprs]]
            expected.append([(positives > cut).mean() for cut in cuts])
    np.testing.assert_allclose(means, np.mean(expected, axis=0), atol=1e-6)
    assert math.isclose(fprs[-1], 0.5)
    assert fprs[0] * len(negatives) >= 1, "fewer negatives do not support a rate"


def test_untrained_is_grey(study):
    (ax,) = tpr_fpr(study, []).drawing.axes
    assert to_rgb(curves(ax)[2].get_color()) == to_rgb("#808080")


def drawn(*records):
    return tpr_fpr(Study(records, {}), []).drawing


def markers(drawing):
    """The markers of a drawing: (rate, hollow)."""
    points = [line for line in drawing.axes[0].lines if line.get_marker() == "o"]
    return sorted((float(line.get_xdata()[0]), line.get_markerfacecolor() == "white") for line in points)


def test_operating_points_are_marked_and_thin_ones_hollow(run):
    three = (0.2, 0.05, 0.001)
    drawing = drawn(run("ce", three), run("ce", three, seed=1), run("b", (0.2, 0.05)))
    assert markers(drawing) == [(0.05, True)] * 2 + [(0.2, False)] * 2, "those in common: 4 and 16 negatives above"


def test_a_point_that_the_data_does_not_support_is_not_drawn(run):
    drawing = drawn(run("ce", (0.2, 1e-6)))
    assert markers(drawing) == [(0.2, False)]
    assert 1 / 80 <= min(curves(drawing.axes[0])[0].get_xdata()) < 0.05
