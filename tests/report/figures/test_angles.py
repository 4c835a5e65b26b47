"""Every angle of every run is drawn."""

import pytest

from lossbench.report.figures.angles import angles
from lossbench.results.metric_fields import shown_in


def test_every_angle_of_every_repeat_is_a_point(study):
    drawing = angles(study, []).drawing
    for ax, figure in zip(drawing.axes, shown_in("angles"), strict=True):
        points = [offset[0] for dots in ax.collections for offset in dots.get_offsets().tolist()]
        assert sorted(points) == pytest.approx(sorted(record["metrics"][figure.key] for record in study.finished))
        assert [label.get_text() for label in ax.get_yticklabels()] == study.entrants
