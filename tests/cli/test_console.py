"""Counts where the output is not a terminal, a line per quarter; tables in narrow terminals."""

import io
import json
import re

import pytest
from rich.console import Console

from lossbench.cli import console
from lossbench.cli.console import Level, at_level, counting, counting_in_turn, document, say, step


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


def test_counts_follow_each_other_and_one_that_is_not_used_is_not_shown(capsys):
    with at_level(Level.VERBOSE), counting_in_turn("one", "two", "three") as (one, _, three):
        one(2, 2)
        three(1, 1)
        three(1, 1)
    shown = [line.split(" in ")[0] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["one: 2 of 2", "one: 2", "three: 1 of 1", "three: 1 of 1", "three: 1"]


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


def test_a_quiet_command_shows_no_progress(capsys):
    with at_level(Level.QUIET):
        with counting("looking") as advance:
            advance(400, 400)
        step("drawing")
        say("0.9")
    step("drawing")
    assert capsys.readouterr().out == "0.9\ndrawing\n"


def test_a_verbose_command_shows_every_twentieth_and_how_long_it_took(capsys):
    with at_level(Level.VERBOSE), counting("looking") as advance:
        for done in range(1, 401):
            advance(done, 400)
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [f"looking: {done} of 400" for done in range(20, 401, 20)]
    assert re.fullmatch(r"looking: 400 in \d+\.\d s", last)


def test_a_document_stands_alone_on_standard_output(capsys):
    with document(True) as write:
        say("a note")
        console.table(["a"], [["b"]])
        console.listing("a", [("b", ["c"])])
        write({"figure": float("nan"), "list": (1, 2.5)})
    out, err = capsys.readouterr()
    assert json.loads(out) == {"figure": None, "list": [1, 2.5]}
    assert err == "a note\n", "tables and lists say the same as the document"
    with document(False) as write:
        say("a note")
        write({})
    assert capsys.readouterr() == ("a note\n", "")


def test_a_listing_lets_no_control_characters_through(capsys):
    console.listing("data", [("a", ["\x1b[2Jgone", "é"])])
    assert capsys.readouterr().out == "data:\n  a  \\x1b[2Jgone\n     é\n\n"
