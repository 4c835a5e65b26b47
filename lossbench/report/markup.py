"""Sections of a report, and Markdown: tables, and text with its markup escaped."""

import html
import re
from collections.abc import Sequence
from typing import NamedTuple


class Part(NamedTuple):
    """A section of a report, as plain text: paragraphs, a table, and notes below it. Whatever shows it escapes it."""

    title: str
    text: tuple[str, ...] = ()
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    notes: tuple[str, ...] = ()


def part_lines(part: Part | None) -> list[str]:
    """Return the lines of a section in Markdown; none where there is no section."""
    if part is None:
        return []
    lines = [f"## {plain(part.title)}", "", *(line for text in part.text for line in paragraph(text))]
    if part.headers:
        lines += [*table(part.headers, part.rows), ""]
    return lines + [line for note in part.notes for line in paragraph(note)]


def table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table; all columns but the first are right-aligned."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(plain, cells)) + " |"

    return [line(headers), "|" + " --- |" + " ---: |" * (len(headers) - 1), *(line(row) for row in rows)]


def paragraph(text: str) -> list[str]:
    """Return the lines of a paragraph; none where there is no text."""
    return [plain(text), ""] if text else []


def plain(text: str) -> str:
    """Escape what Markdown or HTML would take for markup within a line: names and failure reasons come from plugins.

    Line breaks become spaces. An underscore that follows a letter or digit begins nothing and stays as it is.
    """
    line = " ".join(text.splitlines())
    return re.sub(r"([\\`*\[\]|~]|(?<![^\W_])_)", r"\\\1", html.escape(line, quote=False))
