"""A loss has one colour, whatever else is compared."""

import re

from lossbench.report.theme import colours


def test_every_entrant_has_a_colour_of_its_own_and_untrained_is_grey():
    for count in (1, 6, 10, 11, 23):
        names = [f"loss{i}" for i in range(count)]
        found = colours([*names, "untrained"])
        assert list(found) == [*names, "untrained"]
        assert len(set(found.values())) == count + 1
        assert all(re.fullmatch("#[0-9a-f]{6}", colour) for colour in found.values())
        assert found["untrained"] == "#808080"


def test_the_order_of_the_entrants_decides():
    assert colours(["ce", "arcface", "untrained"])["arcface"] == colours(["ce", "arcface"])["arcface"]
