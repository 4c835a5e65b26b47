"""Every angle of every run is drawn."""

import pytest

from lossbench.report.figures.angles import angles
from lossbench.results.metric_fields import shown_in
from lossbench.results.study import Study


def test_every_angle_of_every_repeat_is_a_point_and_every_mean_a_bar(study):
    drawing = angles(study, []).drawing
    for ax, figure in zip(drawing.axes, shown_in("angles"), strict=True):
        assert ax.get_title(loc="left") == figure.title
        for row, name in enumerate(study.entrants):
            dots, mean = (line.get_xydata() for line in ax.lines[2 * row : 2 * row + 2])
            own = [record["metrics"][figure.key] for record in study.finished if record["entrant"] == name]
            assert sorted(dots[:, 0]) == pytest.approx(sorted(own))
            assert mean.tolist() == [[pytest.approx(sum(own) / len(own)), row]]
            assert set(dots[:, 1]) == {row}
    assert [label.get_text() for label in drawing.axes[0].get_yticklabels()] == study.entrants
    low, high = drawing.axes[0].get_ylim()
    assert low > high, "the first at the top"


def test_a_loss_without_class_centers_has_an_empty_row(study):
    bare = [
        {**r, "metrics": {**r["metrics"], "train_w_ec": r["metrics"]["train_w_ec"] if r["entrant"] == "b" else None}}
        for r in study.finished
    ]
    drawing = angles(Study(tuple(bare), {}), []).drawing
    assert {float(line.get_ydata()[0]) for line in drawing.axes[0].lines} == {study.entrants.index("b")}
    assert len({float(line.get_ydata()[0]) for line in drawing.axes[1].lines}) == len(study.entrants)


def test_angles_that_nobody_has_are_left_out(study):
    bare = [
        {**r, "metrics": {k: v for k, v in r["metrics"].items() if not k.startswith("query_")}} for r in study.finished
    ]
    whole, found = angles(study, []), angles(Study(tuple(bare), {}), [])
    assert [ax.get_title(loc="left") for ax in found.drawing.axes] == ["W-EC", "W-Inter", "Intra train", "Inter train"]
    assert "query" in whole.caption
    assert "query" not in found.caption
    empty = Study(tuple({**r, "metrics": {}} for r in study.finished), {})
    assert angles(empty, []) is None
