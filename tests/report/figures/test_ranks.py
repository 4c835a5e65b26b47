"""Bars join exactly what the verdicts leave together."""

from itertools import combinations

import numpy as np
import pytest
from support import RECORDS, STUDY, changed, known_record

from lossbench.metrics.uncertainty import Estimate
from lossbench.report.figures.ranks import joined, ranks
from lossbench.results.metric_fields import metric
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict, verdicts

FIGURE = metric("tpr@0.1")


def verdict(a, b, ahead):
    return Verdict(FIGURE, a, b, Estimate(0.1, 0.1, 4, 0.01, 0.0, 5), 0.01 if ahead else 0.5, 0.05)


@pytest.mark.parametrize("seed", range(8))
def test_two_losses_share_a_bar_exactly_where_neither_is_ahead(seed):
    rng, order = np.random.default_rng(seed), list("abcdefgh")
    found = [verdict(a, b, rng.random() < 0.4) for a, b in combinations(order, 2)]
    groups = joined(order, found)
    for v in found:
        assert any({v.a, v.b} <= set(group) for group in groups) == (v.ahead is None)
    assert not any(set(a) < set(b) for a in groups for b in groups), "only the largest"
    assert len(set(groups)) == len(groups)
    assert all(list(group) == sorted(group) and len(group) > 1 for group in groups)
    assert groups == sorted(groups)


def test_all_alike_is_one_bar_and_all_apart_is_none():
    pairs = list(combinations("abc", 2))
    assert joined(list("abc"), [verdict(*pair, False) for pair in pairs]) == [("a", "b", "c")]
    assert joined(list("abc"), [verdict(*pair, True) for pair in pairs]) == []


def test_a_diagram_per_figure_shows_means_ranks_and_bars():
    drawn = ranks(STUDY, found := verdicts(STUDY))
    figures = sorted(dict.fromkeys(v.figure for v in found if v.difference.count > 1), key=lambda f: f.point is None)
    axes = [ax for ax in drawn.drawing.axes if ax.axison]
    assert [ax.get_title(loc="left") for ax in axes] == [figure.title for figure in figures]
    ax = axes[-1]  # accuracy: a is ahead of b, and c, whose repeats scatter, of neither
    assert ax.get_title(loc="left") == "accuracy (class means)"
    assert {text.get_text() for text in ax.texts} == {"a (1)", "b (2)", "c (1)"}
    means = {name: STUDY.estimate(name, "test_accuracy_ncm").mean for name in "abc"}
    bars = [sorted(line.get_xdata().tolist()) for line in ax.lines if line.get_marker() == "o"]
    assert bars == [sorted([means["a"], means["c"]]), sorted([means["b"], means["c"]])]
    edges = {line.get_xdata()[0]: line.get_xdata()[-1] for line in ax.lines if len(line.get_xdata()) == 3}
    assert set(edges) == set(means.values())
    assert edges[max(means.values())] == max(ax.get_xlim()), "the best is named at the right"
    alike = [ax.get_xlabel() for ax in axes]
    assert alike[-1] == ""


def test_nothing_compared_is_no_figure_and_an_uncompared_loss_is_left_out():
    once = Study((known_record("a", 0, 0.9), known_record("b", 0, 0.8)), {})
    assert ranks(once, verdicts(once)) is None
    assert ranks(STUDY, []) is None
    alone = Study((*RECORDS, known_record("d", 0, 0.9)), {})
    texts = {text.get_text() for ax in ranks(alone, verdicts(alone)).drawing.axes for text in ax.texts}
    assert not any(text.startswith("d") for text in texts)


def test_of_many_losses_the_highlights_are_drawn():
    records = [known_record(f"loss{i}", r, 0.5 + i / 40 + 0.001 * r) for i in range(9) for r in range(3)]
    three = Study(tuple(records), {})
    drawn = ranks(three, verdicts(three))
    highlights = ["ID rate @ FPR 0.1", "ID rate @ FPR 0.01", "accuracy (class means)"]
    assert [ax.get_title(loc="left") for ax in drawn.drawing.axes] == highlights
    assert "tables/ranks.csv" not in drawn.caption, "no figure is left out"
    four = Study(tuple(changed(record, ("metrics", "tpr@0.05"), 0.5) for record in records), {})
    drawn = ranks(four, verdicts(four))
    assert [ax.get_title(loc="left") for ax in drawn.drawing.axes] == highlights
    assert drawn.caption.endswith("The other operating points are in tables/ranks.csv.")
