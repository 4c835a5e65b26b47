"""Counts where the output is not a terminal, a line per quarter; tables in narrow terminals."""

import io

import pytest
from rich.console import Console

from lossbench.cli import console
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


@pytest.mark.parametrize("width", [60, 80, 200])
def test_no_number_is_broken_in_a_narrow_terminal(width, monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(console, "terminal", lambda: Console(width=width, file=out, highlight=False))
    headers = ["loss", "runs", "accuracy (class means)", "ID rate @ FPR 0.1", "@ 0.05", "@ 0.01", "images/s"]
    rows = [
        [name, "5", "0.988 [0.974, 1]", *["0.876 ± 0.045"] * 3, "2,096 ± 170"] for name in ("ce", "arcface_triplet")
    ]
    console.table(headers, rows, title="orl")
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    shown = [cell.strip() for line in lines if "│" in line for cell in line.split("│")]
    assert all(shown.count(cell) == sum(row.count(cell) for row in rows) for row in rows for cell in row[1:])
    assert shown.count("arcface_triplet") == sum("orl" in line for line in lines), "each table names the losses"
    assert sum("continued" in line for line in lines) == {60: 2, 80: 1, 200: 0}[width]
