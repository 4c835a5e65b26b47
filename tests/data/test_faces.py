"""What a data set refuses when a user asks for a part of it."""

import shutil

import pytest

from lossbench.data.catalogue import open_data
from lossbench.errors import InputError


def test_one_training_person_is_too_few_whatever_is_asked_for(tree):
    for part in ("train", "val", "test"):
        for person in ("p1", "p2", "p3"):
            shutil.rmtree(tree / part / person)
    for asked in ({"identities": 2}, {"min_images": 3}, {"images_per_identity": 3}, {"identities": 2, "min_images": 9}):
        with pytest.raises(InputError, match=r"\Athis data has 1 training person; a loss needs 2 or more: add people"):
            open_data(str(tree), **asked)


def test_more_people_or_images_than_there_are(tree):
    with pytest.raises(InputError, match=r"--identities 5 is out of range; this data has 2 to 4 training people\Z"):
        open_data(str(tree), identities=5)
    with pytest.raises(InputError, match="--min-images 7 leaves 0 training people; use at most 6"):
        open_data(str(tree), min_images=7)
