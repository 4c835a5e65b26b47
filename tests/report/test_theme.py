"""Colours that people with each kind of colour-blindness tell apart; a loss has one, whatever is drawn."""

import re
from itertools import combinations

import numpy as np
import pytest

from lossbench.losses.plugin import UNTRAINED
from lossbench.report.theme import OTHERS, PALETTE, REFERENCE, colours, colours_of, contrast, inked, leading
from lossbench.results.study import Study

#: Machado, Oliveira & Fernandes 2009, table 1, severity 1: linear RGB as people without one kind of cone see it.
_SEEN = {
    "all": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(colour, seen):
    """CIE 1976 L*a*b* of a colour as some people see it (D65)."""
    rgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.asarray(seen) @ np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    xyz = np.asarray(to_xyz) @ linear.clip(0, 1) / [0.95047, 1, 1.08883]
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("seen", _SEEN)
def test_any_two_colours_differ_for_everyone(seen):
    for one, other in combinations(PALETTE, 2):
        assert np.linalg.norm(lab(one, _SEEN[seen]) - lab(other, _SEEN[seen])) > 15, (one, other)
    assert min(np.linalg.norm(lab(one, _SEEN[seen]) - lab(REFERENCE, _SEEN[seen])) for one in PALETTE) > 9


def test_lines_show_on_white_and_names_can_be_read():
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005), "W3C's example of what just fails"
    assert min(contrast(one, "#ffffff") for one in (*PALETTE, REFERENCE)) >= 3
    assert min(contrast(one, "#151617") for one in (*PALETTE, REFERENCE, OTHERS)) > 1.7
    for one in (*PALETTE, REFERENCE, OTHERS):
        assert contrast(inked(one), "#ffffff") >= 4.5
        assert inked(one) == one or contrast(one, "#ffffff") < 4.5


def test_eight_losses_have_a_colour_of_their_own_and_untrained_is_grey():
    for count in (1, 6, 8, 9, 23):
        names = [f"loss{i}" for i in range(count)]
        found = colours([*names, UNTRAINED])
        assert list(found) == [*names, UNTRAINED]
        assert [found[name] for name in names] == [*PALETTE[:count], *[OTHERS] * (count - 8)]
        assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in found.values())
        assert found[UNTRAINED] == REFERENCE
    assert colours(["a", "b", "c"], ["c"]) == {"a": OTHERS, "b": OTHERS, "c": PALETTE[0]}


def test_the_order_of_the_entrants_decides():
    assert colours(["ce", "arcface", "untrained"])["arcface"] == colours(["ce", "arcface"])["arcface"]


def study_of(*means, ncm=()):
    """A study of one repeat; losses are numbered, the last is ce, and `untrained` is best of all."""
    names = [*(f"loss{i}" for i in range(len(means) - 1)), "ce", UNTRAINED]
    records = [
        {"entrant": name, "repeat": 0, "status": "finished", "people": {"query": 9, "test": 9}, "metrics": {
            "tpr@0.1": mean, "test_accuracy_ncm": dict(ncm).get(name, mean)}}
        for name, mean in zip(names, (*means, 1.0), strict=True)
    ]  # fmt: skip
    return Study(tuple(records), {})


def test_the_leading_losses_are_the_baseline_and_the_best_of_each_figure():
    few = study_of(0.5, 0.6, 0.1)
    assert leading(few) == few.trained == ["loss0", "loss1", "ce"]
    many = study_of(*(i / 100 for i in range(20)), 0.0, ncm={"loss3": 0.9, "loss0": 0.8})
    assert leading(many) == ["loss0", "loss3", *(f"loss{i}" for i in range(15, 20)), "ce"]
    assert UNTRAINED not in leading(many)
    drawn = colours_of(many)
    assert {name for name, colour in drawn.items() if colour != OTHERS} == {*leading(many), UNTRAINED}
