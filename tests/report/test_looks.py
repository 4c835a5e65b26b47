"""The report's account of looks, and verdicts that follow the looks and not a single test."""

import csv

from support import known_record

from lossbench.report.looks import looks_part
from lossbench.report.markup import part_lines
from lossbench.report.write import write_report
from lossbench.results.looks import Decision, Look, Looks, Plan, read_looks, write_looks
from lossbench.results.study import Study

PLAN = Plan("p", "t", {"a": "1", "b": "2"}, max_repeats=8, smallest_difference=0.02)
FIGURE = "tpr@0.1"


def looks(**changes):
    taken = (
        Look(2, PLAN.level_of_look(2, 0), ()),
        Look(3, PLAN.level_of_look(3, 2), (Decision(FIGURE, "a", "b", "a", False),)),
    )
    return Looks(PLAN, (FIGURE,), taken=taken, **changes)


def study(names, repeats):
    return Study(tuple(known_record(name, repeat, 0.9) for name in names for repeat in range(repeats)), {})


def test_nothing_is_said_where_the_number_of_repeats_was_fixed():
    assert looks_part(None, study("ab", 3)) is None


def test_every_look_is_a_row_and_the_sentence_comes_last():
    lines = part_lines(looks_part(looks(ended="Settled after 3 repeats: so it is."), study("ab", 3)))
    text = "\n".join(lines)
    assert "added to settle every pair at ID rate @ FPR 0.1: one ahead, or both equivalent (within 0.02). The " in text
    assert "The limit was 8 repeats." in text
    assert "| 1 | 2 | 0.0179 | 0 | 0 |" in text
    assert "| 2 | 3 | 0.0070 | 1 | 0 |" in text
    assert [line for line in lines if line][-1] == "Settled after 3 repeats: so it is."
    assert "replace" not in text
    assert "does not support" not in text


def test_what_the_looks_leave_out_is_said_and_names_from_files_are_escaped():
    text = "\n".join(
        part_lines(
            looks_part(looks(left_out=("tpr@0.001",), replaced=("2 looks of a plan for <script>",)), study("abc", 5))
        )
    )
    assert "the data does not support it: ID rate @ FPR 0.001." in text
    assert "These looks replace 2 looks of a plan for &lt;script&gt;. Each plan by itself keeps the level" in text
    assert "The looks are not finished: the same command continues." in text
    assert "2 further repeats have been trained since the last look." in text
    assert "The looks of --until-settled do not cover c, so no verdict is given on it; " in text


def verdict_rows(folder):
    text = (folder / "report.md").read_text()
    with (folder / "tables" / "verdicts.csv").open() as file:
        rows = list(csv.DictReader(file))
    shown = ("test_accuracy_ncm", "tpr@0.1", "tpr@0.01")
    return text, {row["figure"]: row["verdict"] for row in rows if row["figure"] in shown}


def test_a_report_calls_ahead_what_a_look_decided_and_nothing_else(lossbench, tmp_path, monkeypatch):
    monkeypatch.setattr("lossbench.report.figures.write.write_figures", lambda *_: [])  # drawing takes seconds
    words = ("--epochs", 1, "--image-size", 32, "--repeats", 2, "--until-settled", "--max-repeats", 3)
    code, out, err = lossbench("run", "--losses", "arcface,ce", "--out", tmp_path, *words)
    assert (code, err) == (0, "")
    folder = tmp_path / "orl"
    found = read_looks(folder)
    assert out.splitlines()[-1] == found.ended
    write_report(folder)
    text, rows = verdict_rows(folder)
    assert found.ended.replace("_", "\\_") in text
    assert len(rows) == 3
    assert not any("ahead" in verdict for verdict in rows.values()), "no look has decided anything after one epoch"
    assert "was below the level of one of the looks" in text

    first, last = found.taken
    decided = (Decision("tpr@0.1", "arcface", "ce", "ce", False), Decision("tpr@0.01", "arcface", "ce", None, True))
    write_looks(folder, Looks(found.plan, found.figures, taken=(Look(first.repeats, first.level, decided), last)))
    write_report(folder)
    rows = verdict_rows(folder)[1]
    assert list(rows.values()) == ["not separable", "ce ahead", "equivalent (within 0.02)"]
    ranks = (folder / "tables" / "ranks.csv").read_text()
    assert "arcface,1,2," in ranks

    lossbench("run", "--losses", "arcface,ce", "--out", tmp_path, *words[:4], "--repeats", 3, "--lr", "0.01")
    write_report(folder)
    text, rows = verdict_rows(folder)
    assert "Repeats were added" not in text, "these looks are of other runs"
