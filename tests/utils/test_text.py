"""What an error says, in one line, whatever it says."""

import pytest

from lossbench.utils.text import described, first_line


@pytest.mark.parametrize(
    ("error", "line", "whole"),
    [
        (ValueError("no"), "no", "ValueError: no"),
        (ValueError("first\nsecond"), "first", "ValueError: first"),
        (ValueError("\n \nthird"), "third", "ValueError: third"),
        (ValueError(), "ValueError", "ValueError"),
        (ValueError(""), "ValueError", "ValueError"),
        (ValueError("\n"), "ValueError", "ValueError"),
        (KeyboardInterrupt(), "KeyboardInterrupt", "KeyboardInterrupt"),
    ],
)
def test_the_first_line_of_an_error(error, line, whole):
    assert first_line(error) == line
    assert described(error) == whole
