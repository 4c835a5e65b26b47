"""What is printed of very large data sets is computed from the units, and the units come from commands that exist."""

import re
from pathlib import Path

import pytest

from lossbench.report import large_scale
from lossbench.report.large_scale import MACHINES, Machine, Unit, first_wall, lines, needs

PERF = Path(__file__).parents[1] / "perf"
UNITS = [value for value in vars(large_scale).values() if isinstance(value, Unit)]


def need(what):
    return next(one for one in needs() if one.what == what)


def test_the_arithmetic_by_hand():
    assert need("packed store").amount == pytest.approx(93e6 * 37_665)
    assert need("class weights, AdamW").amount == pytest.approx(2e6 * 512 * 16.2529, rel=1e-4)  # 16 bytes and a little
    assert need("one epoch, without the scores").amount / 3600 == pytest.approx(4.617, rel=1e-3)
    assert need("measuring").amount == pytest.approx(93e6 * 1216 * 2**20 / 108_099)
    assert need("10,000 query images, all others").amount == pytest.approx(93e6 * 1e4 * 2.03e-8)


def test_the_scores_of_all_classes_are_counted_beside_the_epoch():
    assert 3 * 2 * 2e6 * 512 == 6.144e9
    assert any("2 million take 6.1 GFLOP an image more" in line for line in lines())
    assert any(": 571 PFLOP an epoch" in line for line in lines())


def test_a_store_and_class_weights_cost_at_least_their_bytes():
    assert large_scale.STORED.amount >= 112 * 112 * 3
    assert large_scale.TRAINED.amount >= 4 * 4  # weights, gradient and two moments in float32


def test_every_unit_names_a_command_that_exists_and_is_used():
    assert {one.unit for one in needs()} == set(UNITS)
    for unit in UNITS:
        assert (PERF / unit.command.split()[0]).is_file()


def test_the_text_follows_the_units_and_fits_a_screen(monkeypatch):
    before = lines()
    assert len(before) <= 30
    assert max(map(len, before)) <= 120
    monkeypatch.setattr(large_scale, "STORED", large_scale.STORED._replace(amount=2 * 37_665))
    changed = [(old, new) for old, new in zip(before, lines(), strict=True) if old != new]
    assert "3.5 TB" in changed[0][0]
    assert "7.01 TB" in changed[0][1]
    assert any("a workstation" in new and "packed store: 7.01 TB disk" in new for _, new in changed)


def test_the_wall_is_the_first_need_that_does_not_fit():
    assert [getattr(first_wall(machine, needs()), "what", None) for machine in MACHINES] == [
        "list of the images",
        "embedding all images",
        None,
    ]
    roomy = Machine("", 1e15, 1e15, 1e10, 1)
    assert first_wall(roomy, needs()).what == "class weights, AdamW"
    assert first_wall(Machine("", 1e15, 1e15, 1e10, 2), needs()) is None
    assert first_wall(Machine("", 3.51e12, 1e15, 1e12, 1), needs()).what == "packed store"  # beside split.json


def test_the_command_prints_it(lossbench):
    code, out, _ = lossbench("explain", "large-scale")
    assert (code, out.splitlines()) == (0, lines())
    assert lossbench("explain", "Large", "scale")[1] == out
    assert "of data: lossbench explain large-scale" in lossbench("explain", "scale")[1]
    assert re.search(r"^  large-scale +what 93 million images", lossbench("explain")[1], re.M)
