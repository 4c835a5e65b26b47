"""Looks a term up in the glossary: by its topic, another name, a figure's key, or nearly so."""

import re
from collections.abc import Iterator
from functools import cache

from lossbench.errors import InputError, did_you_mean
from lossbench.report.glossary import TERMS, Term


def find(name: str) -> Term | None:
    """Return the entry of a topic, a title, another name, or a figure's key; upper and lower case are alike.

    Example:
        >>> find("TAR").topic, find("tpr@0.001").topic, find("nothing")
        ('id-rate', 'id-rate', None)
    """
    wanted = _plain(name)
    by_name = _names()
    figure = wanted.partition("@")[0]
    of_figure = next((term for term in TERMS if figure in term.figures), None)
    spelled = map(by_name.get, (figure, *_spellings(wanted)))
    return by_name.get(wanted) or of_figure or next(filter(None, spelled), None)


def topic_of(name: str) -> str:
    """Return the topic of a name that the report links to.

    Raises:
        KeyError: it has no entry, so that the link would lead nowhere.
    """
    term = find(name)
    if term is None:
        raise KeyError(f"'{name}' has no entry in report/glossary.py")
    return term.topic


def explained(name: str) -> Term:
    """Return the entry of a name.

    Raises:
        InputError: there is none; the message names the closest one, or how to list all.
    """
    if (found := find(name)) is not None:
        return found
    hint = did_you_mean(_plain(name), list(_names()))
    raise InputError(f"no topic '{name}'{hint or ';'} lossbench explain lists all topics")


def parts(term: Term) -> list[tuple[str, str]]:
    """Return label and text of what an entry has besides its definition."""
    figures = ", ".join(f"{key}@RATE" if key in _AT_A_RATE else key for key in term.figures)
    found = (
        ("formula", term.formula),
        ("unit", term.unit),
        ("source", term.source),
        ("in run.json", figures),
        ("also", ", ".join(name for name in term.also if name not in term.figures)),
    )
    return [(label, text) for label, text in found if text]


_AT_A_RATE = {"tpr", "achieved_fpr", "threshold", "transfer_fpr", "transfer_tpr", "transfer_threshold"} | {
    "dir", "achieved_far", "dir_threshold"
}  # fmt: skip


def _spellings(wanted: str) -> Iterator[str]:
    """Yield how else a name may be spelled: a file's underscores, the images of a person as a number, a plural."""
    words = re.sub(r"^p ?x ?(\d+|k)$", "p x k", wanted.replace("_", " "))
    yield words
    yield words.removesuffix("s")


def _plain(name: str) -> str:
    return " ".join(name.casefold().split())


@cache
def _names() -> dict[str, Term]:
    """Return every name of every entry; a topic wins over another entry's further name."""
    names = {_plain(name): term for term in TERMS for name in (term.title, *term.also)}
    return names | {term.topic: term for term in TERMS}


def topic_of_heading(heading: str) -> str | None:
    """Return the topic of a table's heading; None where the heading is no word of the report.

    Example:
        >>> topic_of_heading("@ 0.001 †"), topic_of_heading("0.05 becomes"), topic_of_heading("rank 1, distractors")
        ('id-rate', 'threshold-transfer', 'rank-k')
    """
    base = heading.removesuffix(" †")
    for pattern, name in _PATTERNS:
        base = re.sub(pattern, name, base)
    term = find(base)
    return term.topic if term else None


_RATE = r"[\d.]+(e-\d+)?"
_PATTERNS = (
    (rf"^(FPR )?{_RATE} becomes$", "becomes"),
    (rf"^@ {_RATE}$", "id rate"),
    (rf"^(ID rate|DIR) @ (FPR|FAR) {_RATE}$", r"\1"),
    (r", distractors$", ""),
    (r"^gain over .*$", "gain"),
    (r"^cosine of .*$", "cosine"),
)
