"""The options of evaluate that contradict each other or are out of range, each in one line."""

from pathlib import Path

import pytest

from lossbench.cli.evaluation_request import TemplateLists, input_options
from lossbench.errors import InputError


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ((None, "x", None, None), "--mean 'x' should be one number or three: 127.5 or 123.7,116.3,103.5"),
        ((None, "1,2", None, None), "--mean '1,2' should be one number"),
        ((None, "1,2,3,", None, None), "--mean '1,2,3,': item 4 of 4 is empty"),
        ((None, None, "0", None), "--std '0' should be one number above 0 or three"),
        ((None, None, "nan", None), "--std 'nan' should be"),
        ((None, None, None, "gbr"), "--channels 'gbr' is unknown; choose rgb or bgr"),
        ((4, None, None, None), "--image-size 4 is out of range"),
    ],
)
def test_how_a_network_is_fed_is_checked(given, says):
    with pytest.raises(InputError, match=says):
        input_options(*given)


def test_numbers_are_read():
    found = input_options(112, "-1", "1,2.5,3", "bgr")
    assert (found.image_size, found.mean, found.std, found.channels) == (112, (-1.0,), (1.0, 2.5, 3.0), "bgr")


def test_no_templates_are_none():
    TemplateLists(None, None, None, False).refuse_contradictions()
    assert TemplateLists(None, None, None, False).read() is None
    with pytest.raises(InputError, match="--template-pairs needs --templates"):
        TemplateLists(None, Path("p"), None, False).refuse_contradictions()
