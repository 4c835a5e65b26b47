"""Counts where the output is not a terminal: a line per quarter."""

import pytest

from lossbench.cli.console import counting


def counts(step, total):
    return [*range(step, total, step), total]


@pytest.mark.parametrize(
    ("step", "total", "shown"),
    [
        (1, 400, ["100 of 400", "200 of 400", "300 of 400", "400 of 400"]),
        (32, 400, ["128 of 400", "224 of 400", "320 of 400", "400 of 400"]),
        (32, 12_000, ["3,008 of 12,000", "6,016 of 12,000", "9,024 of 12,000", "12,000 of 12,000"]),
        (300, 400, ["300 of 400", "400 of 400"]),
        (1, 2, ["1 of 2", "2 of 2"]),
    ],
)
def test_a_line_at_each_quarter_whatever_the_step(capsys, step, total, shown):
    with counting("looking") as advance:
        for done in counts(step, total):
            advance(done, total)
    assert capsys.readouterr().out.splitlines() == [f"looking: {line}" for line in shown]


def test_a_second_count_starts_anew(capsys):
    with counting("looking") as advance:
        for done in (64, 128, 64, 128, 128, 128):
            advance(done, 128)
    shown = ["64", "128", "64", "128", "128", "128"]
    assert capsys.readouterr().out.splitlines() == [f"looking: {done} of 128" for done in shown]
