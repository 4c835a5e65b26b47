"""What training reads and which epoch it returns: train and val alone, the last or the best on val; and resuming."""

import dataclasses

import pytest
import torch
from support import equal_states, settings
from support import trained as run

from lossbench.data.batches import to_images
from lossbench.data.faces import Part
from lossbench.evaluation.embed import embed
from lossbench.evaluation.measure import measure
from lossbench.metrics import logit_accuracy, nearest_mean_accuracy
from lossbench.training import train as training
from lossbench.training.checkpoint import copy_state

STEPS = 4  # of an epoch: full batches of 32 out of 144 training images


class Stopped(Exception):
    pass


def stop_after(epochs):
    def on_epoch(epoch):
        if epoch.epoch == epochs:
            raise Stopped

    return on_epoch


@pytest.mark.parametrize("text", ["sphereface", "arcface_triplet"])
@pytest.mark.parametrize("select", ["last", "val"])
def test_a_resumed_run_ends_bit_identical(orl, pixels, tmp_path, text, select):
    config = settings(epochs=4, select=select)
    whole = run(text, orl.split(0), pixels, tmp_path / "whole", config)
    for stop in (1, 3):
        with pytest.raises(Stopped):
            run(text, orl.split(0), pixels, tmp_path / "parts", config, on_epoch=stop_after(stop))
    resumed = run(text, orl.split(0), pixels, tmp_path / "parts", config)
    assert equal_states(whole.backbone, resumed.backbone)
    assert equal_states(whole.head, resumed.head)
    assert resumed.selected_epoch == whole.selected_epoch
    assert [(e.epoch, e.train_loss, e.val_accuracy) for e in whole.history] == [
        (e.epoch, e.train_loss, e.val_accuracy) for e in resumed.history
    ]
    lines = (tmp_path / "parts" / "history.jsonl").read_text().splitlines()
    assert len(lines) == 4


def test_a_damaged_checkpoint_is_reported_and_the_run_starts_again(orl, pixels, tmp_path):
    with pytest.raises(Stopped):
        run("ce", orl.split(0), pixels, tmp_path / "run", on_epoch=stop_after(2))
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    notes = []
    again = run("ce", orl.split(0), pixels, tmp_path / "run", on_note=notes.append)
    assert "damaged" in notes[0]
    assert equal_states(again.backbone, run("ce", orl.split(0), pixels, tmp_path / "whole").backbone)


def without(pixels, *parts):
    """The pixels with the images of some parts blackened."""
    changed = pixels.clone()
    for part in parts:
        changed[list(part.rows)] = 0
    return changed


@pytest.mark.parametrize("select", ["last", "val"])
def test_test_query_and_distractors_change_nothing(orl, pixels, tmp_path, select):
    split, config = orl.split(0), settings(select=select)
    others = without(pixels, split.test, split.query, split.distractors)
    first, second = run("ce", split, pixels, tmp_path / "a", config), run("ce", split, others, tmp_path / "b", config)
    assert equal_states(first.backbone, second.backbone)
    assert equal_states(first.head, second.head)
    assert [e.val_accuracy for e in first.history] == [e.val_accuracy for e in second.history]
    assert first.selected_epoch == second.selected_epoch


def test_only_train_and_val_are_read_unless_tracking_is_asked_for(orl, pixels, tmp_path, monkeypatch):
    split, read = orl.split(0), []

    def reading(backbone, pixels, part):
        read.append(part)
        return embed(backbone, pixels, part)

    for module in ("training.train", "evaluation.measure"):
        monkeypatch.setattr(f"lossbench.{module}.embed", reading)
    run("triplet", split, pixels, tmp_path / "plain", settings())
    assert {id(part) for part in read} == {id(split.val), id(split.train)}
    read.clear()
    run("triplet", split, pixels, tmp_path / "tracked", settings(track=True))
    assert {id(split.test), id(split.query), id(split.distractors)} <= {id(part) for part in read}


def test_tracking_records_more_and_changes_nothing(orl, pixels, tmp_path):
    plain, tracked = (
        run("ce", orl.split(0), pixels, tmp_path / str(track), settings(track=track)) for track in (False, True)
    )
    assert equal_states(plain.backbone, tracked.backbone)
    assert all("test_accuracy" in epoch.tracked for epoch in tracked.history)
    assert [dataclasses.replace(e, tracked=None, seconds=0) for e in tracked.history] == [
        dataclasses.replace(e, seconds=0) for e in plain.history
    ]


@pytest.mark.parametrize("text", ["arcface", "triplet"])
def test_the_accuracy_on_val_is_that_of_scores_or_of_the_nearest_mean(orl, pixels, tmp_path, text):
    split = orl.split(0)
    trained = run(text, split, pixels, tmp_path / "run")
    with torch.no_grad():
        val, train_part = (trained.backbone(to_images(pixels[list(part.rows)])) for part in (split.val, split.train))
        labels, train_labels = torch.tensor(split.val.labels), torch.tensor(split.train.labels)
        if text == "arcface":
            expected = logit_accuracy(trained.head.logits(val), labels)
        else:
            expected = nearest_mean_accuracy(val, labels, train_part, train_labels)
    assert trained.history[-1].val_accuracy == pytest.approx(expected)


def test_evaluation_leaves_the_backbones_statistics_alone(orl, pixels, tmp_path):
    """With more images in val, which a backbone in training mode would count, the weights are the same."""
    split = orl.split(0)
    more = dataclasses.replace(
        split, val=Part((*split.val.rows, *split.test.rows), (*split.val.labels, *split.test.labels), split.val.people)
    )
    first, second = (run("ce", each, pixels, tmp_path / str(i), settings()) for i, each in enumerate((split, more)))
    assert equal_states(first.backbone, second.backbone)


def scripted(monkeypatch, accuracies):
    """Let the accuracy on val take these values, and keep the weights of every epoch."""
    coming, kept = iter(accuracies), []

    def accuracy(backbone, head, pixels, split):
        kept.append((copy_state(backbone), copy_state(head)))
        return next(coming)

    monkeypatch.setattr(training, "_val_accuracy", accuracy)
    return kept


def is_state(module, state):
    return all(torch.equal(tensor, state[name]) for name, tensor in module.state_dict().items())


def test_select_val_reports_the_best_epoch_on_val(orl, pixels, tmp_path):
    config = settings(epochs=5, select="val")
    trained = run("ce", orl.split(0), pixels, tmp_path / "run", config)
    accuracies = [e.val_accuracy for e in trained.history]
    assert trained.selected_epoch == accuracies.index(max(accuracies)) + 1
    measured = measure(trained.backbone, trained.head, pixels, orl.split(0))
    assert measured.figures["val_accuracy"] == max(accuracies)


@pytest.mark.parametrize(
    ("accuracies", "best"), [((0.2, 0.5, 0.5, 0.1), 2), ((0.3, 0.2, 0.3, 0.3), 1), ((0.1, 0.2, 0.1, 0.3), 4)]
)
def test_the_best_epoch_on_val_is_chosen_and_the_first_of_equals(orl, pixels, tmp_path, monkeypatch, accuracies, best):
    kept = scripted(monkeypatch, accuracies)
    trained = run("sphereface", orl.split(0), pixels, tmp_path / "run", settings(epochs=4, select="val"))
    assert trained.selected_epoch == best
    assert is_state(trained.backbone, kept[best - 1][0])
    assert is_state(trained.head, kept[best - 1][1])
    assert not is_state(trained.backbone, kept[best % 4][0])
    assert trained.steps == 4 * STEPS, "all that were trained"


def test_the_last_epoch_is_chosen_whatever_val_says(orl, pixels, tmp_path, monkeypatch):
    kept = scripted(monkeypatch, (0.9, 0.5, 0.1))
    trained = run("sphereface", orl.split(0), pixels, tmp_path / "run")
    assert trained.selected_epoch == 3
    assert is_state(trained.backbone, kept[2][0])
    assert is_state(trained.head, kept[2][1])
