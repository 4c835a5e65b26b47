"""A loss is drawn alike in every figure."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lossbench.report.figures.look import lines_of, panels, plain_ticks
from lossbench.report.theme import colours


def test_a_loss_has_the_same_colour_and_dashes_whatever_is_drawn_beside_it():
    both, alone = lines_of(["a", "b", "untrained"]), lines_of(["a", "b"])
    assert both["palette"] == colours(["a", "b", "untrained"])
    for name in ("a", "b"):
        assert both["palette"][name] == alone["palette"][name]
        assert both["dashes"][name] == alone["dashes"][name]


def test_panels_come_row_by_row():
    drawing, axes = panels(2, 3, 6, 4)
    assert isinstance(drawing, Figure)
    assert [isinstance(ax, Axes) for ax in axes] == [True] * 6
    assert [(ax.get_subplotspec().rowspan.start, ax.get_subplotspec().colspan.start) for ax in axes[1:4]] == [
        (0, 1), (0, 2), (1, 0),
    ]  # fmt: skip
    assert drawing.get_size_inches().tolist() == [6, 4]


def test_rates_on_a_logarithmic_axis_are_plain_text():
    drawing, (ax,) = panels(1, 1, 6, 3)
    ax.set(xscale="log", xlim=(1e-5, 1))
    plain_ticks(ax.xaxis)
    drawing.draw_without_rendering()
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert {"1e-5", "0.001", "0.1"} <= set(labels)
