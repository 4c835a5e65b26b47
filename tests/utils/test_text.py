"""What an error says, in one line, whatever it says."""

import json
import math

import pytest

from lossbench.utils.text import described, file_name, first_line, json_text, rate_text, shown


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


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("arcface:margin=0.3", "arcface_margin=0.3"),
        ("pml:ArcFaceLoss+0.5*triplet", "pml_ArcFaceLoss+0.5_triplet"),
        ("./my loss.py", "._my_loss.py"),
        ("Zoë/人\n", "Zo____"),
        ("n" * 300, "n" * 80),
    ],
)
def test_a_file_name_is_one_that_any_file_system_takes(text, name):
    assert file_name(text) == name
    assert file_name(text, 3) == name[:3]


def test_names_are_shown_in_one_line():
    assert shown("a\nb\udcff\x1b[31m") == "a\\nb\\udcff\\x1b[31m"
    assert shown("Zoë/人.jpg") == "Zoë/人.jpg"


def test_a_rate_is_written_as_people_write_it():
    assert [rate_text(rate) for rate in (0.1, 0.001, 1e-4, 1e-5, 2.5e-7, 1e-12)] == [
        "0.1", "0.001", "0.0001", "1e-5", "2.5e-7", "1e-12",
    ]  # fmt: skip


def test_json_has_null_where_there_is_no_number():
    found = json.loads(json_text({1: math.nan, "a": [math.inf, -math.inf, 0.1, "é"], "b": (True, None)}))
    assert found == {"1": None, "a": [None, None, 0.1, "é"], "b": [True, None]}
