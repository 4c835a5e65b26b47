"""Text drawn on images, in DejaVu Sans, which comes with matplotlib: Latin, Greek, Cyrillic and more."""

import importlib.util
import unicodedata
from functools import cache
from pathlib import Path

from PIL import ImageFont

from lossbench.utils.text import shown

_FONT = Path("mpl-data", "fonts", "ttf", "DejaVuSans.ttf")  # in matplotlib's folder


@cache
def lettering(size: int) -> ImageFont.FreeTypeFont:
    """Return the font, so many pixels high; its plain layout draws the same pixels on every machine."""
    return ImageFont.truetype(str(_font_file()), size, layout_engine=ImageFont.Layout.BASIC)


def drawable(text: str) -> str:
    """Return text for `lettering`: what the font lacks, and what is written right to left, is escaped.

    Example:
        >>> drawable("Zoë Müller 李"), drawable("Zoe\u0308")
        ('Zoë Müller \\\\u674e', 'Zoë')
    """
    composed = unicodedata.normalize("NFC", shown(text))  # names of macOS are decomposed
    return "".join(c if _has(c) else c.encode("ascii", "backslashreplace").decode() for c in composed)


def ending(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Return a text that can be drawn in so many pixels: whole, or two dots and its end.

    Example:
        >>> ending("a/long/path/to/a.jpg", lettering(10), 60)
        '..th/to/a.jpg'
    """
    if font.getlength(text) <= width:
        return text
    first = 1
    while first < len(text) and font.getlength(f"..{text[first:]}") > width:
        first += 1
    return f"..{text[first:]}"


def _has(character: str) -> bool:
    right_to_left = unicodedata.bidirectional(character) in ("R", "AL")  # the plain layout would reverse it
    return ord(character) in _characters() and not right_to_left


@cache
def _characters() -> frozenset[int]:
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(str(_font_file())).get_charmap())


def _font_file() -> Path:
    found = importlib.util.find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / _FONT
