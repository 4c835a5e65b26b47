"""The glossary has an entry for every figure and for every word that a report uses, and is fit to be read."""

import re
from pathlib import Path

import pytest
from support import STUDY

from lossbench.report.explain import find, topic_of_heading
from lossbench.report.glossary import TERMS
from lossbench.report.tables import text_table
from lossbench.report.verdicts import verdict_text
from lossbench.results.metric_fields import shown_in, table_at
from lossbench.results.verdicts import verdicts

EVERY_FIGURE = [metric.key for metric in table_at((0.1, 1e-4))]
ROOM = Path(__file__).parents[2] / "lossbench" / "report"


@pytest.mark.parametrize("key", EVERY_FIGURE)
def test_every_figure_has_one_entry(key):
    assert [term.topic for term in TERMS if key.partition("@")[0] in term.figures] == [find(key).topic]


def test_entries_are_about_figures_that_exist():
    known = {key.partition("@")[0] for key in EVERY_FIGURE}
    assert {figure for term in TERMS for figure in term.figures} <= known


def headings():
    """Return every heading of a column, in the tables of figures and in those that report/ writes out."""
    places = ("headline", "verification", "gallery", "points", "transfer", "retrieval", "clusters", "angles", "speed")
    figures = [title for place in places for title in text_table(STUDY, shown_in(place))[0]]
    written = [
        word
        for file in ROOM.glob("*.py")
        if file.name != "passport.py"  # of `lossbench passport`, which is no report
        for row in re.findall(r"(?:table\(|headers = )(\[\"[^\]]*\])", file.read_text())
        for word in re.findall(r'"([^"]+)"', row)
    ]
    assert len(written) > 10, "the search for written headings found none"
    return sorted({*figures, *verdict_text(verdicts(STUDY), STUDY.records)[0], *written})


@pytest.mark.parametrize("word", headings())
def test_every_heading_of_a_table_has_an_entry(word):
    assert topic_of_heading(word), f"'{word}' has no entry in report/glossary.py"


@pytest.mark.parametrize(
    "word",
    ["query", "distractors", "survival", "untrained", "ahead", "equivalent", "not separable", "thin", "detectable",
     "rank", "interval", "operating point", "threshold transfer", "gallery", "probe", "plain twin", "look", "fold",
     "sampler", "passport", "target logit", "fingerprint", "peak memory", "head parameters", "margin", "scale",
     "embedding", "backbone", "class centers", "repeats to settle", "deconfound", "fpr", "verdict", "bootstrap",
     "disagreements", "sphere", "query map", "rank plot", "similarities"],
)  # fmt: skip
def test_every_word_of_the_report_has_an_entry(word):
    assert find(word)


def test_topics_and_names_are_unique():
    topics = [term.topic for term in TERMS]
    assert len(set(topics)) == len(topics)
    names = [name for term in TERMS for name in (term.title.casefold(), *term.also)]
    assert sorted(names) == sorted(set(names))
    assert all(re.fullmatch(r"[a-z0-9-]+", topic) for topic in topics)


@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.topic)
def test_an_entry_is_fit_to_be_read(term):
    assert term.title
    assert term.text.endswith(".")
    assert not {name for name in term.also if name != name.casefold()}
    assert not any("\n" in text or "  " in text for text in (term.text, term.formula, term.source))
