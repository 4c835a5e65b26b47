"""The curve of rates against sorted scores; its operating points."""

import math

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lossbench.metrics.operating_point import is_thin
from lossbench.report.figures import rates
from lossbench.report.figures.rates import tpr_fpr
from lossbench.report.theme import OTHERS
from lossbench.results.study import Study


def pairs(record):
    """Return the cosines of same-person pairs and of all others, by the whole matrix at once."""
    saved = np.load(f"{record['folder']}/embeddings.npz")
    query, other = (saved[name] / np.linalg.norm(saved[name], axis=1)[:, None] for name in ("query", "distractors"))
    i, j = np.triu_indices(len(query), 1)
    cosines, same = (query @ query.T)[i, j], saved["query_labels"][i] == saved["query_labels"][j]
    return cosines[same], np.concatenate([cosines[~same], (query @ other.T).ravel()])


def curves(ax):
    """The curves of a drawing, in the order of the entrants."""
    return [line for line in ax.get_lines() if len(line.get_xdata()) > 5]


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
    assert math.isclose(fprs[-1], 0.2)
    assert fprs[0] * len(negatives) >= 1, "fewer negatives do not support a rate"


def test_the_band_is_the_range_of_the_repeats(study):
    (ax,) = tpr_fpr(study, []).drawing.axes
    alone = []
    for repeat in range(2):
        own = Study(tuple(r for r in study.finished if r["repeat"] == repeat), {})
        alone.append(curves(tpr_fpr(own, []).drawing.axes[0])[0].get_xydata())
    points = ax.collections[0].get_paths()[0].vertices
    for (fpr, one), (_, other) in zip(*alone, strict=True):
        edges = points[np.isclose(points[:, 0], fpr), 1]
        assert {min(edges), max(edges)} == {min(one, other), max(one, other)}


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


def test_a_marker_stands_where_the_record_says_and_within_the_axis(run):
    high = run("ce", (0.4, 0.05))
    high["metrics"]["tpr@0.4"] = 0.75
    (ax,) = drawn(high).axes
    points = [line.get_xydata().tolist()[0] for line in ax.lines if line.get_marker() == "o"]
    assert sorted(points) == [[0.05, 0.5], [0.4, 0.75]]
    assert ax.get_xlim()[1] == 0.4


def test_a_caption_speaks_of_bands_where_there_are_some(run):
    one, two = run("ce", (0.2,)), run("ce", (0.2,), seed=1)
    assert "bands are their range" in caption(one, two)
    assert drawn(one, two).axes[0].collections
    assert "There is one repeat, so there are no bands" in caption(one)
    assert not drawn(one).axes[0].collections


def test_a_point_that_the_data_does_not_support_is_not_drawn(run):
    drawing = drawn(run("ce", (0.2, 1e-6)))
    assert markers(drawing) == [(0.2, False)]
    assert 1 / 80 <= min(curves(drawing.axes[0])[0].get_xdata()) < 0.05


def test_the_supported_limit_is_the_smallest_rate_that_ten_negatives_decide(run):
    drawing = drawn(run("ce", (0.2, 0.05)))
    (limit,) = [line.get_xdata()[0] for line in drawing.axes[0].lines if list(line.get_ydata()) == [0, 1]]
    assert limit == 10 / 80
    assert is_thin(limit - 1e-3, 80)
    assert not is_thin(limit, 80)
    assert "Left of 0.12, where it is shaded and markers are hollow, fewer than 10 of 80" in caption(run("b", (0.2,)))


def caption(*records):
    return tpr_fpr(Study(records, {}), []).caption


def test_names_stand_beside_the_first_points_and_the_many_are_grey(run):
    records = [run(f"loss{i}", (0.2, 0.05), seed=i) for i in range(10)]
    records = [{**record, "repeat": 0, "people": {"query": 2, "test": 2}} for record in records]
    drawing = drawn(*records)
    names = [text.get_text() for text in drawing.axes[0].texts if text.get_text().startswith("loss")]
    assert len(names) == 8
    assert sum(to_rgb(line.get_color()) == to_rgb(OTHERS) for line in curves(drawing.axes[0])) == 2
    assert caption(*records).endswith("Grey lines: 2 other losses.")
    assert len(markers(drawing)) == 8 * 2


def of_one_person(record, distractors):
    """Rewrite a run's embeddings: all query images are of one person."""
    path = f"{record['folder']}/embeddings.npz"
    saved = dict(np.load(path))
    changed = {"query_labels": saved["query_labels"] * 0, "distractors": saved["distractors"][:distractors]}
    np.savez(path, **{**saved, **changed})
    return record


def test_a_limit_beyond_the_axis_is_named_within_it(run):
    """16 negatives: ten of them are more than the axis shows."""
    (ax,) = drawn(of_one_person(run("ce", (0.2,)), 2)).axes
    (told,) = [text for text in ax.texts if text.get_text().startswith("fewer")]
    assert told.xy[0] == 0.2


def test_without_negatives_there_is_no_curve(run):
    assert tpr_fpr(Study((of_one_person(run("ce", (0.2,)), 0),), {}), []) is None


def test_names_stand_at_the_end_where_the_lines_are_apart(run):
    """Embeddings of a separable loss reach every rate first, those of a random one last."""
    apart, mixed = run("apart", (0.2,)), run("mixed", (0.2,), seed=1)
    path = f"{apart['folder']}/embeddings.npz"
    saved = dict(np.load(path))
    people = np.eye(5, dtype=np.float32)[saved["query_labels"]]
    np.savez(path, **{**saved, "query": people, "distractors": -np.ones((8, 5), np.float32)})
    records = [{**r, "repeat": 0, "people": {"query": 2, "test": 2}} for r in (apart, mixed)]
    (ax,) = drawn(*records).axes
    low, high = ([float(line.get_ydata()[i]) for line in curves(ax)] for i in (0, -1))
    assert max(low) - min(low) > max(high) - min(high)
    names = [text for text in ax.texts if text.get_text() in ("apart", "mixed")]
    assert {text.get_ha() for text in names} == {"right"}
    assert ax.yaxis.get_label_position() == "right"
    np.savez(path, **{**saved, "query": np.ones_like(people), "distractors": np.ones((8, 5), np.float32)})
    (ax,) = drawn(*records).axes
    low, high = ([float(line.get_ydata()[i]) for line in curves(ax)] for i in (0, -1))
    assert max(low) - min(low) < max(high) - min(high)
    assert ax.yaxis.get_label_position() == "left"


def test_a_caption_speaks_of_a_limit_where_there_is_one(run, monkeypatch):
    monkeypatch.setattr(rates, "_LOWEST", 0.15)
    whole = tpr_fpr(Study((run("ce", (0.2,)),), {}), [])
    assert "At every rate shown, 10 or more of 80 negatives lie above the threshold." in whole.caption
    assert not [text for text in whole.drawing.axes[0].texts if text.get_text().startswith("fewer")]
