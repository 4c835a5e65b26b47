"""The text of a report, from records whose right answer is known, and as a reader of Markdown takes it."""

import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from support import REPORTED, SETTINGS, changed

from lossbench.report.findings import Findings
from lossbench.report.markdown import markdown
from lossbench.results.answer import answer
from lossbench.results.metric_fields import shown_in
from lossbench.results.study import Study
from lossbench.results.verdicts import verdicts

READER = MarkdownIt("commonmark").enable("table")
RUNS = REPORTED
FOUND = verdicts(Study(tuple(RUNS), {}))
MATRICES = sorted(shown_in("highlights", fprs=(0.1, 0.01)), key=lambda figure: figure.point is None)


def text_of(runs=RUNS, found=FOUND, drawn=(), left_out=0, **settings):
    study = Study(tuple(runs), {})
    findings = Findings({**SETTINGS, **settings}, study, found, answer(study, found), left_out=left_out)
    return markdown(findings, drawn, ["summary", "selection_gap"])


def test_every_table_is_linked_as_csv_and_latex():
    text = text_of()
    for name, said in (("summary", "summary"), ("selection_gap", "selection gap")):
        assert f"- {said}: [CSV](tables/{name}.csv), [LaTeX](tables/{name}.tex)" in text


def tables(text):
    """Return every table as rows of cells, as a reader of Markdown finds them."""
    found = []
    for token in READER.parse(text):
        if token.type == "table_open":
            found.append([])
        if token.type == "tr_open":
            found[-1].append([])
        if token.type == "inline" and token.level > 3:
            found[-1][-1].append("".join(child.content for child in token.children))
    return found


def test_it_says_how_the_runs_were_made():
    text = text_of()
    assert "# Losses compared on orl\n" in text
    assert (
        "Backbone tiny, 48 px, embeddings of 128; 7 epochs of batch 32, AdamW at 0.003 (cosine schedule), seed 5; "
        "4 repeats; the last epoch is reported."
    ) in text
    assert "100 images of 20 people (val 101, test 102)" in text
    assert "23 query people (103 images) and 24 distractors (104 images)" in text
    assert "1,234 same-person pairs and 56,789 different-person pairs" in text
    assert "Written by lossbench 9.8.7." in text
    assert "AT&amp;T Laboratories Cambridge" in text
    assert "the epoch that is best on val is reported" in text_of(select="val")


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        ("poly", "polynomial schedule of power 2"),
        ("step:5", "divided by 10 after epoch 5"),
        ("step:2,4,6", "divided by 10 after epochs 2, 4 and 6"),
    ],
)
def test_it_says_which_optimiser_and_schedule_trained(schedule, said):
    text = text_of(optimizer="sgd", schedule=schedule, lr=0.05)
    assert f"7 epochs of batch 32, SGD with momentum 0.9 at 0.05 ({said}), seed 5;" in text


def test_settings_of_a_file_that_was_changed_by_hand_stay_text():
    assert "\\*fast\\* at 0.003 (\\[x\\](y))" in text_of(optimizer="*fast*", schedule="[x](y)")


def test_tables_have_a_row_for_each_loss_and_no_ragged_rows():
    found = tables(text_of())
    assert all(len({len(row) for row in rows}) == 1 for rows in found)
    results, *matrices, ranks = found
    assert [row[0] for row in results] == ["loss", "a", "b", "c", "untrained*"]
    assert [row[0] for row in ranks] == ["loss", "a", "b", "c"]
    assert [rows[0] for rows in matrices] == [[f.title, "a", "b", "c"] for f in MATRICES]
    assert [row[0] for row in matrices[0]][1:] == ["a", "b", "c"]
    said = re.search(r"(\d+) of (\d+) comparisons are separable", text_of())
    cells = [cell for rows in matrices for row in rows[1:] for cell in row[1:] if cell]
    ahead, behind = ([cell for cell in cells if cell.startswith(mark)] for mark in "▲▼")
    assert len(ahead) == len(behind)
    assert [int(number) for number in said.groups()] == [len(ahead), len(cells) // 2]


def test_every_count_of_comparisons_names_its_figures():
    found = [replace(v, figure=replace(v.figure, shown=("verdicts",))) if v.figure.point == 0.01 else v for v in FOUND]
    ahead, text = sum(v.ahead is not None for v in FOUND), text_of(found=found)
    assert re.search(
        rf"At the figures below, \d of 6 comparisons are separable; at all 3 figures compared, {ahead} of 9\.", text
    )
    assert f"{sum(not v.settled for v in FOUND)} comparisons still open over all 3 figures compared" in text
    assert "at all 3 figures compared" not in text_of()


def test_failed_runs_are_listed_with_their_reason_escaped():
    runs = [changed(run, ("reason",), "ValueError: __x__ <b>|") if run["status"] == "failed" else run for run in RUNS]
    lines = ["".join(one.content for one in token.children or ()) for token in READER.parse(text_of(runs))]
    assert "c, repeat 4, failed in epoch 4: ValueError: __x__ <b>|" in lines
    assert "Failed runs are results" in text_of(runs)
    assert "Failed runs are results" not in text_of([run for run in RUNS if run["status"] == "finished"])


def test_figures_that_were_not_drawn_are_not_shown():
    text = text_of(drawn=[("angles", "Angles."), ("tpr_fpr", "Rates.")])
    assert re.findall(r"!\[(.*?)\]\((.*?)\)", text) == [("Rates.", "figures/tpr_fpr.png")]
    assert "- Angles. [SVG](figures/angles.svg), [PNG](figures/angles.png)" in text
    assert text.count("*Rates.*") == 1
    assert "![" not in text_of()


@pytest.mark.parametrize(
    ("count", "says"),
    [(0, None), (1, "1 run with other settings in this folder is"), (2, "2 runs with")],
)
def test_runs_that_are_left_out_are_counted(count, says):
    assert ("with other settings" in text_of(left_out=count)) == bool(count)
    assert says is None or says in text_of(left_out=count)


def test_one_loss_alone_has_no_verdict():
    alone = [run for run in RUNS if run["entrant"] in ("a", "untrained")]
    assert "No two losses other than `untrained` have a finished repeat in common: nothing to" in text_of(alone, [])


def test_one_repeat_has_neither_intervals_nor_verdicts():
    first = [run for run in RUNS if run["repeat"] == 0]
    text = text_of(first, verdicts(Study(tuple(first), {})))
    assert "There is one repeat, so no figure has an interval" in text
    assert "95 % interval" not in text
    assert "none is compared" in text
    assert "| ID rate @ FPR 0.1 | a |" not in text
    assert "95 % interval" in text_of()


def test_people_in_folders_of_ones_own_have_no_credit(tmp_path):
    assert "Faces:" not in text_of(data=str(tmp_path))


def test_what_was_typed_is_escaped():
    """Names of losses in every table and verdict, and settings that somebody else may have written."""
    odd = "named:tag=<script>alert(1)</script>|x"
    runs = [changed(run, ("entrant",), odd) if run["entrant"] == "a" else run for run in RUNS]
    settings = {"backbone": "<b>`|", "record": {"lossbench": "<script>0."}}
    text = text_of(runs, verdicts(Study(tuple(runs), {})), **settings)
    assert not re.search(r"<(script|b)", text)
    assert r"Backbone &lt;b&gt;\`\|, 48 px" in text
    assert "Written by lossbench &lt;script&gt;0." in text
    results, *matrices, ranks = tables(text)
    assert results[1][0] == ranks[1][0] == matrices[0][1][0] == matrices[0][0][1] == odd
