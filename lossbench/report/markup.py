"""Markdown: tables, and text with its markup escaped."""

import html
import re
from collections.abc import Sequence


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
