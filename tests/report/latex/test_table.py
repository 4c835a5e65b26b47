"""A table in LaTeX: a float, or a longtable with its heading on every page, with what the preamble needs."""

import pytest

from lossbench.report.latex.table import Table, caption, over, row


def table(rows, **options):
    return Table(
        "It is.", "tab:a", "lr", [row(["x", "y"])], [[row([str(i), "1"]) for i in range(rows)]], **options
    ).text


def test_a_short_table_is_a_float_with_rules():
    lines = table(2).splitlines()
    assert lines[0].startswith("% ")
    assert lines[0].endswith(r"\usepackage{booktabs}")
    body = lines[lines.index(r"\toprule") : lines.index(r"\end{tabular}")]
    assert body == [r"\toprule", r"x & y \\", r"\midrule", r"0 & 1 \\", r"1 & 1 \\", r"\bottomrule"]
    assert lines.index(r"\caption{It is.}") < lines.index(r"\label{tab:a}")
    assert r"\begin{tabular}{@{}lr@{}}" in lines


@pytest.mark.parametrize("text", [table(2, long=True), table(60)])
def test_a_long_table_repeats_its_heading_on_every_page(text):
    assert text.splitlines()[0].endswith(r"\usepackage{booktabs} \usepackage{longtable}")
    assert text.count(r"x & y \\") == 2
    assert text.index(r"\endfirsthead") < text.index(r"\endhead") < text.index(r"\endfoot") < text.index(r"0 & 1 \\")
    assert r"\begin{table}" not in text


def test_blocks_have_a_rule_between_them_and_commands_of_booktabs_no_break():
    blocks = [["1 & 2", r"\addlinespace[2pt]"], [], [over(2, "all")]]
    lines = Table("", "tab:a", "lr", ["x & y", r"\cmidrule(lr){1-2}"], blocks).text.splitlines()
    assert lines[lines.index(r"x & y \\") : lines.index(r"\bottomrule")] == [
        r"x & y \\", r"\cmidrule(lr){1-2}", r"\midrule", r"1 & 2 \\", r"\addlinespace[2pt]", r"\midrule",
        r"\multicolumn{2}{c}{all} \\",
    ]  # fmt: skip


def test_a_caption_leaves_out_what_is_not_said():
    assert caption(["One of a_b", "", "Two"]) == r"One of a\_b. Two."
