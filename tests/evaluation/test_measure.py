"""All figures of one model: from which images, by whose scores, and what pairs and flip add to them."""

import math
from dataclasses import replace

import pytest
import torch
from support import settings

from lossbench.data.faces import Part
from lossbench.data.pairs import PairSet
from lossbench.evaluation.embed import PairImages, embed
from lossbench.evaluation.measure import figures_of, hits, measure, tracked_figures
from lossbench.losses.loading import load_head
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec
from lossbench.metrics import nearest_mean_hits
from lossbench.metrics.operating_point import DEFAULT_FPRS
from lossbench.results.metric_fields import own_fprs, shown_in, table_at
from lossbench.results.metric_inputs import Values
from lossbench.training.seeds import initial_backbone

CONFIG = settings()


def head_of(text, classes=24, length=128):
    return load_head(parse_spec(text, find_plugins()), num_classes=classes, embedding_dim=length)


@pytest.fixture(scope="module")
def model():
    """An untrained backbone, and a head of 24 classes."""
    torch.manual_seed(0)
    return initial_backbone(CONFIG, 0), head_of("arcface")


@pytest.fixture(scope="module")
def plain(model, pixels, orl):
    return measure(*model, pixels, orl.split(0))


def test_images_are_recognised_by_logits_or_by_the_nearest_class_mean():
    embeddings, labels = torch.eye(4)[[0, 1, 2, 3]], torch.tensor([0, 1, 2, 2])
    head = head_of("ce", classes=3, length=4)
    with torch.no_grad():
        head.weight.copy_(torch.eye(4)[[1, 0, 2]])  # scores of the first two classes are swapped
        head.bias.zero_()
    train, train_labels = torch.eye(4)[:3], torch.tensor([0, 1, 2])
    assert hits(head, embeddings, labels, train, train_labels)[:3].tolist() == [False, False, True]
    means = nearest_mean_hits(embeddings, labels, train, train_labels)
    assert means[:3].tolist() == [True, True, True]
    assert hits(None, embeddings, labels, train, train_labels).equal(means)
    without = head_of("triplet", classes=3, length=4)  # it has no class scores
    assert hits(without, embeddings, labels, train, train_labels).equal(means)


def test_logits_of_another_shape_are_refused():
    head = head_of("ce", classes=5, length=4)
    with pytest.raises(ValueError, match=r"\Alogits have shape \(2, 5\), not \[2, 3\] \(images, classes\)\Z"):
        hits(head, torch.eye(4)[:2], torch.tensor([0, 1]), torch.eye(4)[:3], torch.tensor([0, 1, 2]))


def test_figures_that_the_values_do_not_suffice_for_are_left_out():
    found = figures_of(Values({"train": torch.eye(4), "val_hits": torch.tensor([True, False])}))
    assert found == {"val_accuracy": 0.5, "train_effective_rank": pytest.approx(3)}


def test_every_part_is_embedded_and_every_figure_without_pairs_is_there(model, plain, pixels, orl):
    split = orl.split(0)
    assert list(plain.embeddings) == ["train", "val", "test", "query", "distractors"]
    assert all(plain.embeddings[name].equal(embed(model[0], pixels, part)) for name, part in split.parts())
    computed = [row for row in table_at(DEFAULT_FPRS) if row.function and not row.key.startswith("verification_")]
    assert list(plain.figures) == [row.key for row in computed]
    assert set(plain.resamples) == {row.key for row in computed if row.resamples}
    assert len({len(values) for values in plain.resamples.values()}) == 1


def test_only_the_points_change_with_the_rates_asked_for(model, plain, pixels, orl):
    asked = measure(*model, pixels, orl.split(0), fprs=(0.3, 0.01, 1e-4))
    assert own_fprs(asked.figures) == (0.3, 0.01, 1e-4)
    assert math.isnan(asked.figures["tpr@0.0001"]), "9,200 negatives do not support it"
    both = [key for key in plain.figures if key in asked.figures]
    assert repr([plain.figures[key] for key in both]) == repr([asked.figures[key] for key in both]), "NaN included"
    assert {"tpr@0.01", "threshold@0.01", "transfer_fpr@0.01", "nmi", "dir@0.1"} <= set(both)
    assert {key.partition("@")[2] for key in plain.figures.keys() - set(both)} == {"0.1", "0.05", "0.001"}
    assert asked.resamples.keys() == {"test_accuracy", "test_accuracy_ncm", "tpr@0.3", "tpr@0.01", "tpr@0.0001"}
    assert (asked.resamples["tpr@0.01"] == plain.resamples["tpr@0.01"]).all()


def test_without_a_head_there_are_no_angles_to_its_centers(model, plain, pixels, orl):
    bare = measure(model[0], None, pixels, orl.split(0))
    assert math.isnan(bare.figures["train_w_ec"])
    assert not math.isnan(plain.figures["train_w_ec"])
    assert bare.figures["test_accuracy"] == bare.figures["test_accuracy_ncm"] == plain.figures["test_accuracy_ncm"]


def test_pairs_add_their_figures_and_flip_changes_these_alone(model, plain, pixels, orl):
    rows = torch.tensor(orl.split(0).query.rows[:8])  # of one person
    others = torch.tensor(orl.split(0).distractors.rows[:8])
    a, b = (0, 2, 4, 6, 0, 1, 2, 3), (1, 3, 5, 7, 8, 9, 10, 11)
    kinds = (True,) * 4 + (False,) * 4
    pairs = PairSet(tuple(orl.files[row] for row in [*rows, *others]), a, b, kinds, (0, 1) * 4, "")
    images = PairImages(pairs, pixels[torch.cat([rows, others])])
    one, flipped = (measure(*model, pixels, orl.split(0), pairs=images, flip=flip) for flip in (False, True))
    added = {key for key in one.figures if key.startswith("verification_")}
    assert added == one.figures.keys() - plain.figures.keys()
    assert (one.figures["verification_same"], one.figures["verification_different"]) == (4, 4)
    assert one.figures["verification_threshold"] != flipped.figures["verification_threshold"]
    for found in (one, flipped):
        rest = {key: value for key, value in found.figures.items() if key not in added}
        assert repr(rest) == repr(plain.figures), "NaN included"
        assert all(found.embeddings[name].equal(plain.embeddings[name]) for name in plain.embeddings)


def test_tracked_figures_are_those_of_the_measurement(model, plain, pixels, orl):
    found = tracked_figures(*model, pixels, orl.split(0))
    assert found == {row.key: plain.figures[row.key] for row in shown_in("tracked")}
    assert own_fprs(tracked_figures(*model, pixels, orl.split(0), (0.2, 0.03))) == (0.2, 0.03)


def test_a_tracked_figure_that_the_data_does_not_support_is_null(model, pixels, orl):
    split = orl.split(0)
    query, distractors = split.query, split.distractors
    few = replace(
        split,
        query=Part(query.rows[:20], query.labels[:20], query.people[:2]),
        distractors=Part(distractors.rows[:2], distractors.labels[:2], distractors.people[:1]),
    )
    found = tracked_figures(*model, pixels, few)  # 140 pairs of two people
    assert found["tpr@0.001"] is None
    assert isinstance(found["tpr@0.1"], float)


def test_without_query_people_their_figures_are_null_and_all_others_the_same(model, plain, pixels, orl):
    split, nobody = orl.split(0), Part((), (), ())
    alone = measure(*model, pixels, replace(split, query=nobody, distractors=nobody))
    assert alone.figures.keys() == plain.figures.keys()
    assert alone.resamples.keys() == plain.resamples.keys()
    rest = {key for key, value in alone.figures.items() if value == value and value != 0}
    assert rest == {
        "test_accuracy",
        "test_accuracy_ncm",
        "val_accuracy",
        *(k for k in plain.figures if k.startswith("train_")),
    }
    assert all(alone.figures[key] == plain.figures[key] for key in rest)
    assert {alone.figures[key] for key in ("positives", "negatives", "query_negatives")} == {0}
    for key in alone.resamples:
        if key in rest:
            torch.testing.assert_close(alone.resamples[key], plain.resamples[key])
        else:
            assert all(map(math.isnan, alone.resamples[key]))
    assert alone.embeddings["query"].shape == (0, 128)
    tracked = tracked_figures(*model, pixels, replace(split, query=nobody, distractors=nobody))
    assert tracked["test_accuracy"] == plain.figures["test_accuracy"]
    assert "tpr@0.1" not in tracked
