"""Points and crosses of accuracy against identification rate are the study's estimates."""

import pytest
from support import RECORDS, STUDY, known_record

from lossbench.report.figures.tradeoff import tradeoff
from lossbench.results.study import Study


def test_every_trained_loss_is_a_point_with_both_intervals():
    drawing = tradeoff(STUDY, []).drawing
    titles = {"ID rate @ FPR 0.1": "tpr@0.1", "ID rate @ FPR 0.01": "tpr@0.01"}
    assert [ax.get_xlabel() for ax in drawing.axes] == [*titles]
    for ax in drawing.axes:
        points = [line for line in ax.lines if len(line.get_xdata()) == 1]
        arms = [line for line in ax.lines if len(line.get_xdata()) == 2]
        assert len(points) == len(STUDY.trained)
        for i, name in enumerate(STUDY.trained):
            across, up = (STUDY.estimate(name, key) for key in (titles[ax.get_xlabel()], "test_accuracy_ncm"))
            assert points[i].get_xydata().tolist() == [[across.mean, up.mean]]
            assert arms[2 * i].get_xdata().tolist() == pytest.approx(across.interval(0, 1))
            assert arms[2 * i + 1].get_ydata().tolist() == pytest.approx(up.interval(0, 1))
        assert {text.get_text() for text in ax.texts} == set(STUDY.trained), "untrained is left out"


def test_one_repeat_has_points_without_crosses():
    assert "Crosses are 95 % intervals" in tradeoff(STUDY, []).caption
    found = tradeoff(Study((known_record("a", 0, 0.9), known_record("b", 0, 0.8)), {}), [])
    assert "rosses" not in found.caption
    (ax, _) = found.drawing.axes
    assert [text.get_text() for text in ax.texts] == ["a", "b"]


def test_nobody_unseen_or_one_loss_is_no_figure():
    bare = [{**r, "metrics": {"test_accuracy_ncm": 0.5}} for r in RECORDS if r["status"] == "finished"]
    assert tradeoff(Study(tuple(bare), {}), []) is None
    assert tradeoff(Study(tuple(STUDY.of_entrant("a")), {}), []) is None, "one loss is no comparison"
