"""Verify: cosine, decision and what is said of the threshold, with embeddings that are known."""

import math

import pytest
import torch
from PIL import Image
from support import model_record, scene

from lossbench.data.images.store import open_store
from lossbench.data.prepare.align import landmark_matrix, warp
from lossbench.errors import InputError
from lossbench.evaluation.verify import reliance, verify
from lossbench.results.model_facts import facts_of
from lossbench.results.model_file import ExportedModel


def model(cosine, **changes):
    """A model that says this cosine of any two images."""
    pair = torch.tensor([[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]])
    return ExportedModel({**facts_of(model_record()), **changes}, lambda images: pair)


@pytest.fixture
def files(tmp_path):
    """Two images, one of which is not square: its left and right ends differ from its middle."""
    Image.new("RGB", (40, 40), (10, 20, 30)).save(tmp_path / "a.png")
    wide = Image.new("RGB", (120, 40), (255, 0, 0))
    wide.paste((10, 20, 30), (40, 0, 80, 40))
    wide.save(tmp_path / "b.png")
    return tmp_path / "a.png", tmp_path / "b.png"


def test_a_pair_is_accepted_strictly_above_the_threshold(files):
    found = verify(model(0.7), *files)
    assert (found.point["fpr"], found.same) == (0.01, True)
    assert found.cosine == pytest.approx(0.7)
    assert (found.accepted, found.refused) == ((0.1, 0.01), (0.001,))
    assert verify(model(0.7), *files, 0.001).same is False
    exact = model(0.5)
    exact.facts["operating_points"][1]["threshold"] = verify(exact, *files).cosine
    assert verify(exact, *files).same is False


def test_images_reach_the_model_as_in_training(files):
    seen = []
    one = model(0.7)
    verify(ExportedModel(one.facts, lambda images: seen.append(images) or one.embed(images)), *files)
    assert seen[0].shape == (2, 3, 32, 32)
    assert seen[0].dtype == torch.uint8
    assert torch.equal(seen[0], torch.from_numpy(open_store(files, 32).pixels).permute(0, 3, 1, 2))
    assert seen[0][1, :, 16, 16].tolist() == [10, 20, 30], "RGB, and of the middle"


def test_how_sure_the_threshold_is():
    found = verify_point(0.01)
    people = {"train": 24, "query": 8, "distractors": 9}
    first, second = reliance(found, people)
    assert first == (
        "set on 9,200 different-person pairs of 17 people whom the model was not trained on (query and distractors); "
        "the 92 most similar of them decide it"
    )
    assert "(val, 1,104 pairs), it let 0.0902 of these pairs pass instead of 0.01, 9.0 times as many" in second
    thin = verify_point(0.001)
    assert (found.thin, thin.thin) == (False, True)
    assert (
        "the 9 most similar of them decide it, so few that a look-alike or two would move it" in reliance(thin, {})[0]
    )


def verify_point(fpr):
    from lossbench.evaluation.verify import Verified

    (point,) = [one for one in facts_of(model_record())["operating_points"] if one["fpr"] == fpr]
    return Verified(0.7, ((1, 1), (1, 1)), point, True, (), ())


def test_without_thresholds_there_is_a_cosine_and_no_decision(files):
    found = verify(model(0.7, operating_points=[], lowest_fpr=None), *files)
    assert (found.same, found.point, found.thin) == (None, None, False)
    assert found.cosine == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("fpr", "changes", "says"),
    [
        (1e-5, {}, r"--fpr 1e-5 is below what the data of this run supports, 0.00011 \(1 of 9,200 different-person"),
        (0.02, {}, "the run was not measured there; choose 0.1, 0.01 or 0.001, or run the benchmark's command again"),
        (0.0, {}, "choose one between 0 and 1"),
        (0.01, {"operating_points": []}, "this model has no threshold, since its run measured no unseen people"),
    ],
)
def test_a_rate_without_a_threshold_is_refused(fpr, changes, says, files):
    with pytest.raises(InputError, match=says):
        verify(model(0.7, **changes), *files, fpr)


def test_no_image_is_one_line(files, tmp_path):
    (tmp_path / "c.jpg").write_text("no image")
    with pytest.raises(InputError, match=r"c.jpg is not an image in a known format"):
        verify(model(0.7), files[0], tmp_path / "c.jpg")
    with pytest.raises(InputError, match="cannot be read"):
        verify(model(0.7), files[0], tmp_path / "nothing.jpg")
    nan = ExportedModel(model(0.7).facts, lambda images: torch.full((2, 2), math.nan))
    with pytest.raises(InputError, match="not finite"):
        verify(nan, *files)


@pytest.mark.parametrize("template", [None, "huge", ["arcface"]])
def test_faces_are_not_aligned_where_the_model_does_not_say_how(files, template):
    with pytest.raises(InputError, match=r"\A--detect: the model's metadata names no template to align with, [^\n]*\Z"):
        verify(model(0.7, alignment={"template": template, "said": ""}), *files, detect=True)


@pytest.mark.extra("align")
@pytest.mark.parametrize("crop", ["arcface", "tight"])
def test_the_largest_face_of_each_photo_reaches_the_model_aligned_as_it_says(orl, tmp_path, crop):
    photos = [
        scene((orl.files[0], (20, 20), 2.0), (orl.files[10], (290, 60), 1.0)),
        scene((orl.files[5], (100, 40), 1.5)),
    ]
    names = [tmp_path / f"{i}.png" for i in range(2)]
    for photo, name in zip(photos, names, strict=True):
        photo.save(name)
    seen, one = [], model(0.7, alignment={"template": crop, "said": ""})
    found = verify(
        ExportedModel(one.facts, lambda images: seen.append(images) or one.embed(images)), *names, detect=True
    )
    assert [len(choice.others) for choice in found.faces] == [1, 0]
    assert found.faces[0].face.box[0] < 200
    for photo, choice, pixels in zip(photos, found.faces, seen[0], strict=True):
        expected = warp(photo, landmark_matrix(choice.landmarks, 32, crop), 32)
        assert pixels.permute(1, 2, 0).numpy().tobytes() == expected.tobytes()
    scene().save(names[1])
    with pytest.raises(InputError, match=r"\A[^\n]*1.png shows no face to align by \(no face\); give another photo\Z"):
        verify(one, *names, detect=True)
