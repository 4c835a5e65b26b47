"""Markdown as a reader of it sees the text: as it was given, whatever it holds."""

import pytest
from markdown_it import MarkdownIt

from lossbench.report.markup import paragraph, plain, table

READER = MarkdownIt("commonmark").enable(["table", "strikethrough"])  # what GitHub shows, but for bare links

ODD = [
    "arcface_triplet",
    "_mine_",
    "__init__() got an unexpected keyword",
    "a_b__c_ _d",
    "*x* and **y**",
    "~~gone~~",
    "`code`",
    "[text](http://x.y)",
    "![alt](x.png)",
    "a|b||c",
    "<script>alert(1)</script>",
    "<!-- x",
    "&lt; &amp; & <",
    "a\\*b\\",
    "\\<b> \\| \\&amp;",
    "https://example.org/a_b?c=1&d=2",
    "Zoë_人_",
    "arcface:margin=0.3+0.5*triplet",
]  # fmt: skip


def seen(lines):
    """Return the text of each cell or paragraph, and what else than text is in them."""
    tokens = READER.parse("\n".join(lines))
    inner = [child for token in tokens for child in token.children or ()]
    return [token for token in tokens if token.type == "inline"], {child.type for child in inner} - {"text"}, tokens


def text_of(token):
    return "".join(child.content for child in token.children)


@pytest.mark.parametrize("text", ODD)
def test_text_is_seen_as_it_was_given_and_nothing_is_markup(text):
    cells, others, _ = seen(table(["name", "a"], [[text, "1"], ["b", text]]))
    assert [text_of(cell) for cell in cells] == ["name", "a", text, "1", "b", text]
    assert others == set()
    (line,), others, _ = seen(paragraph(f"Reason: {text}"))
    assert (text_of(line), others) == (f"Reason: {text}", set())


def test_a_name_with_underscores_within_is_not_escaped():
    """It stands so in the tables, and people search for it."""
    assert plain("arcface_triplet_2") == "arcface_triplet_2"


@pytest.mark.parametrize("breaks", ["\n", "\r\n", "\u2028", "\n\n# "])
def test_line_breaks_begin_nothing(breaks):
    (first, *_), _, tokens = seen(table(["name", "a"], [[f"x{breaks}y", "1"]])[2:])
    assert text_of(first).count("|") == 3
    assert {token.type for token in tokens} == {"paragraph_open", "inline", "paragraph_close"}


def test_all_columns_but_the_first_are_right_aligned():
    _, _, tokens = seen(table(["name", "a", "b"], [["x", "1", "2"], ["y", "", "4"]]))
    styles = [token.attrGet("style") for token in tokens if token.type in ("th_open", "td_open")]
    assert styles == [None, "text-align:right", "text-align:right"] * 3


def test_a_paragraph_ends_with_an_empty_line_and_is_none_without_text():
    assert paragraph("") == []
    assert [text_of(line) for line in seen([*paragraph("one"), *paragraph("two")])[0]] == ["one", "two"]
