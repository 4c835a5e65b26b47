"""Images for --faces: those of the runs, and only where the data set allows it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from lossbench.data.catalogue import open_data
from lossbench.errors import InputError
from lossbench.report.disagreements import Disagreed
from lossbench.report.face_images import face_images


def apart(split, repeat=0):
    return Disagreed(("a", "b"), repeat, split, 0.1, (0.5, 0.5), (1, 1), 80, {}, {})


def test_places_count_query_images_and_then_distractors_of_the_repeat(orl):
    images = face_images({"data": "orl"}, apart(orl.fingerprint(1), repeat=1))
    split = orl.split(1)
    for place, row in ((0, split.query.rows[0]), (79, split.query.rows[-1]), (83, split.distractors.rows[3])):
        with Image.open(orl.files[row]) as expected:
            np.testing.assert_array_equal(images.image(place), expected.convert("RGB"))


def test_the_owner_of_a_folder_may_show_its_faces(tree):
    settings = {"data": str(tree), "identities": None}
    split = open_data(str(tree)).fingerprint(0)
    assert face_images(settings, apart(split)).image(0).mode == "RGB"
    other = open_data(str(tree), identities=2).fingerprint(0)
    assert other != split
    assert face_images({**settings, "identities": 2}, apart(other)).apart.split == other


@pytest.mark.parametrize(
    ("kind", "source"), [("celeba", "CelebA"), ("lfw", "LFW"), ("rec", "an InsightFace training set")]
)
def test_faces_released_for_research_are_not_shown(tree, tmp_path, kind, source):
    folder = tmp_path / "prepared"
    shutil.copytree(tree, folder)
    (folder / "split.json").write_text(json.dumps({"schema": 1, "source": {"kind": kind}, "files": []}))
    says = rf"\A[^\n]*was prepared from {source}, whose faces may not be published; leave --faces out[^\n]*\Z"
    with pytest.raises(InputError, match=says):
        face_images({"data": str(folder)}, apart(open_data(str(folder)).fingerprint(0)))
    (folder / "split.json").write_text(json.dumps({"schema": 1, "source": {"kind": "folder"}, "files": []}))
    face_images({"data": str(folder)}, apart(open_data(str(folder)).fingerprint(0)))


def test_images_that_are_not_those_of_the_runs_are_refused(tree, tmp_path):
    for settings, says in (
        ({"data": str(tree)}, "holds other images than those of these runs"),
        ({"data": str(tmp_path / "gone")}, "which is not there; restore the folder"),
        ({"data": str(tree), "identities": "2"}, "identities in benchmark.toml is '2', not a number"),
    ):
        with pytest.raises(InputError, match=says):
            face_images(settings, apart("of another split"))
    with pytest.raises(InputError, match="no two losses with embeddings"):
        face_images({"data": "orl"}, None)
    assert face_images({"data": "orl"}, None, provisional=True) is None, "two losses may come yet"
