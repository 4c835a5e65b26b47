"""Text on images: drawn where the font has it, escaped where it does not."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from lossbench.utils.lettering import drawable, ending, lettering


def pixels(text):
    image = Image.new("L", (120, 16), 255)
    ImageDraw.Draw(image).text((2, 1), text, fill=0, font=lettering(11))
    return np.asarray(image)


@pytest.mark.parametrize("text", ["Zoë Müller", "Łukasz Żak", "Ξένια", "Борис", "a_b-1 (2).jpg"])
def test_what_the_font_has_is_drawn(text):
    assert drawable(text) == text
    assert not np.array_equal(pixels(text), pixels("\ufffd" * len(text)))
    for c in set(text) - {" "}:
        assert not np.array_equal(pixels(c), pixels("\u674e")), "no box for a missing glyph"


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("李/1.jpg", r"\u674e/1.jpg"),
        ("\u05d3\u05d5\u05d3", r"\u05d3\u05d5\u05d3"),  # the font has it, and would draw it backwards
        ("a\nb\x00", r"a\nb\x00"),
        ("\udcff", r"\udcff"),
        ("Zoe\u0308", "Zoë"),
    ],
)
def test_what_the_font_lacks_is_escaped(text, drawn):
    assert drawable(text) == drawn


def test_a_long_text_is_cut_to_its_end_and_fits():
    font = lettering(10)
    for width in (40, 80, 160):
        cut = ending("W" * 50 + "il.jpg", font, width)
        assert font.getlength(cut) <= width
        assert cut.startswith("..")
        assert cut.endswith("il.jpg")
    assert ending("short.jpg", font, 160) == "short.jpg"
