"""A loss is drawn alike in every figure, and named beside its line."""

import itertools
import re

import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from support import STUDY

from lossbench.report.figures.look import WIDTH, label_ends, panels, pens, plain_ticks, short_names, title
from lossbench.report.theme import OTHERS, PALETTE, REFERENCE, colours_of
from lossbench.results.study import Study


def many(count):
    records = [
        {"entrant": f"loss{i}", "repeat": 0, "status": "failed", "metrics": {}, "people": {"query": 9, "test": 9}}
        for i in range(count)
    ]
    untrained = {
        "entrant": "untrained",
        "repeat": 0,
        "status": "failed",
        "metrics": {},
        "people": {"query": 9, "test": 9},
    }
    return Study((*records, untrained), {})


def test_a_pen_has_the_colour_of_the_page_and_dashes_of_its_own():
    drawn = pens(STUDY)
    assert {name: pen.colour for name, pen in drawn.items()} == colours_of(STUDY)
    assert len({(str(pen.dashes), pen.marker) for pen in drawn.values()}) == len(drawn)
    assert all(pen.named for pen in drawn.values())


@pytest.mark.parametrize("name", ["a\x08b", "a\nb", "\u202eab", "a\ud800b", "a\x00b"])
def test_a_name_that_no_svg_can_hold_is_escaped(name):
    (label,) = short_names([name]).values()
    assert label.isprintable()
    assert label.encode()


def test_of_many_losses_eight_are_told_apart_even_in_grey():
    drawn = pens(many(23))
    named = [pen for name, pen in drawn.items() if pen.named and name != "untrained"]
    assert len(named) == len(PALETTE) == len({str(pen.dashes) for pen in named}) == len({pen.marker for pen in named})
    others = [pen for pen in drawn.values() if not pen.named]
    assert len(others) == 15
    assert {pen.colour for pen in others} == {OTHERS}
    assert all(pen.width < named[0].width and pen.order < named[0].order for pen in others)
    assert drawn["untrained"].colour == REFERENCE
    assert drawn["untrained"].named


def test_panels_come_row_by_row_and_are_as_wide_as_every_figure():
    drawing, axes = panels(2, 3, 4)
    assert isinstance(drawing, Figure)
    assert [isinstance(ax, Axes) for ax in axes] == [True] * 6
    places = [(ax.get_subplotspec().rowspan.start, ax.get_subplotspec().colspan.start) for ax in axes]
    assert places == [(row, column) for row in range(2) for column in range(3)]
    assert drawing.get_size_inches().tolist() == [WIDTH, 4]


def test_rates_on_a_logarithmic_axis_are_plain_text():
    drawing, (ax,) = panels(1, 1, 3)
    ax.set(xscale="log", xlim=(1e-5, 1))
    plain_ticks(ax.xaxis)
    drawing.draw_without_rendering()
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert {"1e-5", "0.001", "0.1"} <= set(labels)
    ax.set(xlim=(0.3, 1.2))
    drawing.draw_without_rendering()
    labels = [label.get_text() for label in (*ax.get_xticklabels(), *ax.get_xticklabels(minor=True))]
    assert {"0.5", "1"} <= set(labels), "less than a decade"
    assert "0.6" not in labels


def test_long_names_keep_both_ends_and_stay_apart():
    long = [f"arcface:margin=0.{i}:scale=64.0+0.5*triplet:margin=0.{i}" for i in (3, 5)]
    short = short_names(["ce", *long])
    assert short["ce"] == "ce"
    assert all(len(short[name]) <= 26 and short[name].endswith(name[-5:]) for name in long)
    alike = [f"arcface:margin=0.{i}:scale=64.0+0.5*triplet" for i in (3, 5)]
    assert short_names(alike) == {name: name for name in alike}, "else two losses would have one name"


@pytest.mark.parametrize("left", [False, True])
def test_names_at_the_ends_of_lines_are_apart_and_in_their_order(left):
    drawing, (ax,) = panels(1, 1, 3)
    ax.set(xlim=(0, 1), ylim=(0, 1))
    drawn = pens(STUDY)
    label_ends(ax, {name: (1.0, y) for name, y in zip("abc", (0.5, 0.52, 0.51), strict=True)}, drawn, 2.5, left=left)
    drawing.draw_without_rendering()
    boxes = {text.get_text(): Text.get_window_extent(text) for text in ax.texts}  # without the leader
    heights = sorted((box.y0, box.y1, name) for name, box in boxes.items())
    assert [name for *_, name in heights] == ["a", "c", "b"]
    assert all(below[1] <= above[0] for below, above in itertools.pairwise(heights))
    inside = ax.get_window_extent()
    assert all(box.x1 < inside.x0 if left else box.x0 > inside.x1 for box in boxes.values())
    assert all(re.fullmatch("#[0-9a-f]{6}", text.get_color()) for text in ax.texts)


def test_a_name_stands_above_its_panel_and_a_very_long_one_in_three_lines():
    _, (one, other) = panels(1, 2, 2)
    title(one, "ce", "R-precision 0.5")
    title(other, "x" * 500)
    assert (one.get_title(loc="left"), [text.get_text() for text in one.texts]) == ("ce", ["R-precision 0.5"])
    lines = other.get_title(loc="left").split("\n")
    assert len(lines) == 3
    assert all(set(line) == {"x"} and len(line) <= 28 for line in lines)
