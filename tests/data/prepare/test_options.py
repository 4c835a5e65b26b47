"""The options of a preparation: what they promise of the modules that use them."""

import subprocess
import sys

import pytest

from lossbench.data.prepare import align
from lossbench.data.prepare.options import CROP_NAMES, DEFAULT_IDENTITIES, CropOptions, SplitOptions
from lossbench.data.prepare.split import choose_people
from lossbench.errors import InputError
from lossbench.utils.settings import check


def test_the_crops_are_those_that_can_be_made():
    assert tuple(align.CROPS) == CROP_NAMES


@pytest.mark.parametrize("people", [20, 300])
def test_defaults_are_those_that_the_help_names(people):
    """200, or 7 in 10 people; and up to a quarter of --identities in each open set."""
    chosen = choose_people({f"p{i}": 9 for i in range(people)}, SplitOptions())
    assert len(chosen["closed"]) == min(DEFAULT_IDENTITIES, people * 7 // 10)
    assert 2 <= len(chosen["query"]) <= len(chosen["closed"]) / 4
    assert 2 <= len(chosen["distractors"]) <= len(chosen["closed"]) / 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (CropOptions(size=31), "--size 31 is out of range; use 32 to 1024"),
        (CropOptions(size=1025), "--size 1025 is out of range; use 32 to 1024"),
        (CropOptions(crop="huge"), "--crop 'huge' is not known"),
    ],
)
def test_crops_out_of_range_are_refused(options, says):
    with pytest.raises(InputError, match=says):
        check(options)
    check(CropOptions(32, "tight"))
    check(CropOptions(1024, "loose"))


def test_options_import_nothing_heavy():
    code = "import sys, lossbench.data.prepare.options; print({'torch', 'numpy', 'PIL', 'scipy'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
