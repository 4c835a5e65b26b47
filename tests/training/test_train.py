"""Training: what entrants share, what augmentation touches, resume, determinism, selection."""

from itertools import pairwise

import pytest
import torch

from lossbench.config import Config
from lossbench.evaluation.measure import measure
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec
from lossbench.training.seeds import initial_backbone, initial_head
from lossbench.training.step import TrainingFailed, learning_rate
from lossbench.training.train import train

CONFIG = Config(epochs=3, image_size=32).resolved()


def spec(text):
    return parse_spec(text, find_plugins())


def run(text, split, pixels, folder, config=CONFIG, **options):
    folder.mkdir(exist_ok=True)
    return train(config, spec(text), 0, split, pixels, folder, **options)


class Stopped(Exception):
    pass


def stop_after(epochs):
    def on_epoch(epoch):
        if epoch.epoch == epochs:
            raise Stopped

    return on_epoch


def equal_states(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_all_entrants_of_a_repeat_start_from_the_same_weights(orl, pixels, tmp_path, monkeypatch):
    """Seen where training begins: the weights at the first batch, whatever the loss."""
    seen = []

    def first_batch(images, draws):
        raise Stopped

    def remember(config, repeat):
        backbone = initial_backbone(config, repeat)
        seen.append({name: tensor.clone() for name, tensor in backbone.state_dict().items()})
        return backbone

    monkeypatch.setattr("lossbench.training.train.initial_backbone", remember)
    monkeypatch.setattr("lossbench.training.step.augment", first_batch)
    for text in ("ce", "arcface", "triplet", "sphereface"):
        torch.rand(len(seen) + 1)  # whatever was drawn before
        with pytest.raises(Stopped):
            run(text, orl.split(0), pixels, tmp_path / text)
    assert all(torch.equal(tensor, other[name]) for other in seen for name, tensor in seen[0].items())
    different = initial_backbone(CONFIG, 1).state_dict()
    assert any(not torch.equal(tensor, different[name]) for name, tensor in seen[0].items())


def test_heads_with_weights_of_one_shape_start_from_the_same_ones():
    arcface, cosface = (initial_head(CONFIG, spec(text), 0, 24) for text in ("arcface", "cosface"))
    assert torch.equal(arcface.weight, cosface.weight)


def test_entrants_see_the_same_images_in_the_same_order_and_augmentation(orl, pixels, tmp_path, monkeypatch):
    from lossbench.data.batches import augment

    seen = []

    def watch(images, draws):
        out = augment(images, draws)
        seen.append(out.sum())
        return out

    monkeypatch.setattr("lossbench.training.step.augment", watch)
    run("ce", orl.split(0), pixels, tmp_path / "a")
    run("arcface", orl.split(0), pixels, tmp_path / "b")
    half = len(seen) // 2
    assert half == 12
    assert torch.equal(torch.stack(seen[:half]), torch.stack(seen[half:]))


def test_augmentation_acts_on_training_batches_alone(orl, pixels, tmp_path, monkeypatch):
    """Every image that reaches the network in training mode was augmented; every other is the stored pixels."""
    split = orl.split(0)
    stored = {tuple(row.flatten()[:40].tolist()) for row in (pixels / 255)[:, :, :, 0]}
    modes = {True: [], False: []}

    def watched(config, repeat):
        backbone = initial_backbone(config, repeat)
        backbone.register_forward_pre_hook(lambda net, inputs: modes[net.training].append(inputs[0].clone()))
        return backbone

    monkeypatch.setattr("lossbench.training.train.initial_backbone", watched)
    trained = run("ce", split, pixels, tmp_path / "run", Config(epochs=1, image_size=32).resolved())
    measure(trained.backbone, trained.head, pixels, split)

    def share_stored(batches):
        images = torch.cat(batches)
        return sum(tuple(image[0].flatten()[:40].tolist()) in stored for image in images) / len(images)

    assert share_stored(modes[False]) == 1.0
    assert len(torch.cat(modes[True])) == 128
    assert share_stored(modes[True]) == 0.0


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(orl, pixels, tmp_path):
    first, second = (run("arcface", orl.split(0), pixels, tmp_path / name) for name in "ab")
    assert equal_states(first.backbone, second.backbone)
    assert equal_states(first.head, second.head)
    assert [e.train_loss for e in first.history] == [e.train_loss for e in second.history]
    other = run("arcface", orl.split(0), pixels, tmp_path / "c", Config(epochs=3, image_size=32, seed=1).resolved())
    assert not equal_states(first.backbone, other.backbone)


@pytest.mark.parametrize("text", ["sphereface", "arcface_triplet"])
@pytest.mark.parametrize("select", ["last", "val"])
def test_a_resumed_run_ends_bit_identical(orl, pixels, tmp_path, text, select):
    config = Config(epochs=4, image_size=32, select=select).resolved()
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


def test_a_damaged_checkpoint_is_said_and_the_run_starts_anew(orl, pixels, tmp_path):
    with pytest.raises(Stopped):
        run("ce", orl.split(0), pixels, tmp_path / "run", on_epoch=stop_after(2))
    checkpoint = tmp_path / "run" / "checkpoint.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    notes = []
    again = run("ce", orl.split(0), pixels, tmp_path / "run", on_note=notes.append)
    assert "damaged" in notes[0]
    assert equal_states(again.backbone, run("ce", orl.split(0), pixels, tmp_path / "whole").backbone)


def test_select_val_reports_the_best_epoch_on_val(orl, pixels, tmp_path):
    config = Config(epochs=5, image_size=32, select="val").resolved()
    trained = run("ce", orl.split(0), pixels, tmp_path / "run", config)
    accuracies = [e.val_accuracy for e in trained.history]
    assert trained.selected_epoch == accuracies.index(max(accuracies)) + 1
    measured = measure(trained.backbone, trained.head, pixels, orl.split(0))
    assert measured.figures["val_accuracy"] == max(accuracies)


def test_the_schedule_warms_up_and_ends_at_nothing():
    rates = [learning_rate(step, 100, 3e-3, 0.1) for step in range(100)]
    assert rates[0] < rates[5] < rates[9] < max(rates) == pytest.approx(3e-3)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[-1] < 1e-5


def test_a_loss_that_is_no_number_fails_with_its_reason(orl, pixels, tmp_path):
    (tmp_path / "vector.py").write_text(
        "from lossbench import Head\n\nclass Vector(Head):\n    '''No mean.'''\n"
        "    def __init__(self, num_classes, embedding_dim):\n        super().__init__()\n"
        "    def forward(self, embeddings, labels):\n        return embeddings.sum(1)\n"
    )
    with pytest.raises(TrainingFailed, match=r"one differentiable number, not of shape \[32\]"):
        run(str(tmp_path / "vector.py"), orl.split(0), pixels, tmp_path / "run")
