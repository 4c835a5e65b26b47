"""The protocol that makes a comparison fair, line by line: what entrants share, what epochs and repeats do not."""

import json
import math
from dataclasses import dataclass, field

import pytest
import torch
from support import equal_states, settings
from support import trained as run
from torch import Tensor, nn

from lossbench.data.batches import augmentation_draws, epoch_order
from lossbench.evaluation.measure import measure
from lossbench.losses.head import Head
from lossbench.training import train as training
from lossbench.training.seeds import generator_of, initial_backbone, seed_of
from lossbench.training.step import Step, TrainingFailed

CONFIG = settings(epochs=3)
STEPS = 4  # of an epoch: full batches of 32 out of 144 training images


class Stopped(Exception):
    pass


@dataclass
class Steps:
    """What each step of a training was given, and what the optimiser and the modes were then."""

    images: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    draws: list[Tensor] = field(default_factory=list)
    chance: list[Tensor] = field(default_factory=list)  # the state of the generator that dropout draws from
    rates: list[float] = field(default_factory=list)
    groups: list[list[tuple[float, float]]] = field(default_factory=list)  # rate and decay after the step
    modes: list[tuple[bool, bool]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


@pytest.fixture
def watched(monkeypatch, orl, pixels, tmp_path):
    """Train for real, and return what was trained and its steps."""

    def go(text, config=CONFIG, repeat=0, split=None, faces=pixels, **options):
        steps = Steps()

        class Watching(Step):
            def __call__(self, images, labels, draws, lr):
                steps.images.append(images.clone())
                steps.labels.append(labels.clone())
                steps.draws.append(draws.clone())
                steps.chance.append(torch.get_rng_state())
                steps.rates.append(lr)
                steps.modes.append((self.backbone.training, self.head.training))
                loss = super().__call__(images, labels, draws, lr)
                groups = self.optimizer.param_groups
                steps.groups.append([(float(group["lr"]), group["weight_decay"]) for group in groups])
                steps.losses.append(loss.item())
                return loss

        monkeypatch.setattr(training, "Step", Watching)
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        return run(text, split or orl.split(0), faces, folder, config, repeat, **options), steps

    return go


def alike(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


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
    trained = run("ce", split, pixels, tmp_path / "run", settings(epochs=1))
    measure(trained.backbone, trained.head, pixels, split)

    def share_stored(batches):
        images = torch.cat(batches)
        return sum(tuple(image[0].flatten()[:40].tolist()) in stored for image in images) / len(images)

    assert share_stored(modes[False]) == 1.0
    assert len(torch.cat(modes[True])) == 128
    assert share_stored(modes[True]) == 0.0


def test_entrants_share_images_order_augmentation_and_dropout(watched):
    (_, first), (_, second) = watched("ce"), watched("arcface")
    assert len(first.images) == 3 * STEPS
    for name in ("images", "labels", "draws", "chance"):
        assert alike(getattr(first, name), getattr(second, name)), name
    assert first.rates == second.rates


def test_a_sampler_of_its_own_changes_the_order_alone(watched):
    """Triplets need four images of a person in a batch: as many images, augmented and dropped by the same draws."""
    (ours, shuffled), (theirs, grouped) = watched("ce"), watched("triplet")
    assert alike(shuffled.draws, grouped.draws)
    assert shuffled.chance[0].equal(grouped.chance[0])
    assert [e.images for e in ours.history] == [e.images for e in theirs.history] == [128] * 3
    assert all(set(labels.bincount().tolist()) <= {0, 4} for labels in grouped.labels)
    assert any(set(labels.bincount().tolist()) - {0, 4} for labels in shuffled.labels)


def test_every_epoch_draws_its_own_order_augmentation_and_dropout(watched):
    _, steps = watched("ce")
    for name in ("images", "draws", "chance"):
        kept = getattr(steps, name)
        assert all(not torch.equal(kept[i], kept[j]) for i in range(len(kept)) for j in range(i)), name
    orders = [torch.cat(steps.labels[i : i + STEPS]) for i in range(0, 3 * STEPS, STEPS)]
    assert not any(torch.equal(orders[i], orders[j]) for i in range(3) for j in range(i))


@pytest.mark.parametrize("other", ["repeat", "seed"])
def test_every_repeat_and_every_seed_draws_its_own(watched, other):
    _, first = watched("ce")
    changed = {"repeat": 1} if other == "repeat" else {"config": settings(epochs=3, seed=1)}
    _, second = watched("ce", **changed)
    for name in ("images", "draws", "chance"):
        pairs = zip(getattr(first, name), getattr(second, name), strict=True)
        assert not any(torch.equal(a, b) for a, b in pairs), name


def test_every_draw_comes_from_its_documented_seed(watched, orl):
    """Epochs count from 1; the purposes are order, augment and epoch."""
    config = settings(seed=5)
    _, steps = watched("ce", config, repeat=2)
    labels = torch.tensor(orl.split(0).train.labels)
    for number in (1, 2):
        order = epoch_order(labels, 32, None, generator_of(5, 2, "order", number))
        draws = augmentation_draws(order.shape, generator_of(5, 2, "augment", number))
        found = slice((number - 1) * STEPS, number * STEPS)
        assert alike(steps.labels[found], list(labels[order]))
        assert alike(steps.draws[found], list(draws))
        expected = torch.Generator().manual_seed(seed_of(5, 2, "epoch", number)).get_state()
        assert torch.equal(steps.chance[found][0], expected)


def test_the_images_of_a_step_are_those_of_its_people(watched, orl, pixels):
    _, steps = watched("ce", settings(epochs=1))
    train_part = orl.split(0).train
    person = {
        tuple(pixels[row].flatten()[:60].tolist()): label
        for row, label in zip(train_part.rows, train_part.labels, strict=True)
    }
    for images, labels in zip(steps.images, steps.labels, strict=True):
        assert [person[tuple(image.flatten()[:60].tolist())] for image in images] == labels.tolist()
    seen = torch.cat(steps.images)
    assert len({tuple(image.flatten()[:200].tolist()) for image in seen}) == 128, "each image once"


def test_the_rate_of_every_step_is_that_of_the_schedule(watched):
    config = settings(epochs=3, lr=0.02, warmup=0.3)
    trained, steps = watched("ce", config)
    total, warm = 3 * STEPS, 0.3 * 3 * STEPS
    expected = [
        0.02 * (i + 1) / (warm + 1) if i < warm else 0.02 * math.cos(math.pi / 2 * (i - warm) / (total - warm)) ** 2
        for i in range(total)
    ]
    assert steps.rates == pytest.approx(expected, rel=1e-9)
    assert [group[0][0] for group in steps.groups] == [group[1][0] for group in steps.groups] == steps.rates
    assert [epoch.lr for epoch in trained.history] == steps.rates[STEPS - 1 :: STEPS]


def test_the_head_hears_before_every_step_how_far_the_training_is(watched, monkeypatch):
    heard = []
    monkeypatch.setattr(Head, "progress", lambda head, share: heard.append(share))
    watched("ce")
    assert heard == [step / (3 * STEPS) for step in range(3 * STEPS)]


def test_a_schedule_counts_the_epochs_that_are_trained(watched):
    _, steps = watched("ce", settings(epochs=3, lr=0.02, warmup=0.0, schedule="step:1,2"))
    assert steps.rates == pytest.approx([0.02] * STEPS + [0.002] * STEPS + [0.0002] * STEPS)


@pytest.mark.parametrize("schedule", ["cosine", "poly", "step:1"])
def test_sgd_stopped_and_continued_ends_bit_by_bit_as_sgd_in_one_go(orl, pixels, tmp_path, schedule):
    def stop(epoch):
        if epoch.epoch == 2:
            raise Stopped

    config = settings(epochs=3, optimizer="sgd", schedule=schedule)
    whole = run("arcface", orl.split(0), pixels, tmp_path / "whole", config)
    with pytest.raises(Stopped):
        run("arcface", orl.split(0), pixels, tmp_path / "parts", config, on_epoch=stop)
    parts = run("arcface", orl.split(0), pixels, tmp_path / "parts", config)
    assert equal_states(whole.backbone, parts.backbone)
    assert equal_states(whole.head, parts.head)
    assert (whole.moved, parts.moved) == (True, True)


@pytest.mark.parametrize("decay", [5e-4, 0.03])
def test_the_weight_decay_that_was_asked_for_is_in_effect(watched, decay):
    _, steps = watched("ce", settings(epochs=1, weight_decay=decay))
    assert all([value for _, value in groups] == [decay, 0.0] for groups in steps.groups)


def test_weight_decay_changes_the_result(orl, pixels, tmp_path):
    first, second = (
        run("ce", orl.split(0), pixels, tmp_path / str(decay), settings(epochs=1, weight_decay=decay))
        for decay in (0.0, 1.0)
    )
    convolutions = [[p for p in t.backbone.parameters() if p.ndim == 4] for t in (first, second)]
    assert sum(p.square().sum() for p in convolutions[0]) > sum(p.square().sum() for p in convolutions[1])


def test_both_are_in_training_mode_in_every_step_and_in_evaluation_mode_at_the_end(watched):
    trained, steps = watched("arcface")
    assert steps.modes == [(True, True)] * (3 * STEPS)
    assert not trained.backbone.training
    assert not trained.head.training


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps(watched):
    trained, steps = watched("arcface")
    means = [math.fsum(steps.losses[i : i + STEPS]) / STEPS for i in range(0, 3 * STEPS, STEPS)]
    assert [epoch.train_loss for epoch in trained.history] == pytest.approx(means, rel=1e-12)


@pytest.mark.parametrize(("size", "steps", "images"), [(50, 2, 100), (144, 1, 144), (1000, 1, 144)])
def test_batches_are_full_and_hold_all_images_where_there_are_fewer(watched, size, steps, images):
    trained, seen = watched("ce", settings(batch_size=size))
    assert [len(labels) for labels in seen.labels] == [min(size, 144)] * (2 * steps)
    assert [epoch.images for epoch in trained.history] == [images] * 2
    assert trained.steps == 2 * steps


def test_epochs_are_counted_and_timed(watched, tmp_path):
    heard = []
    trained, _ = watched("ce", on_epoch=heard.append)
    assert [epoch.epoch for epoch in trained.history] == [1, 2, 3]
    assert heard == trained.history
    assert all(epoch.seconds > 0 and epoch.tracked is None for epoch in trained.history)
    (history,) = tmp_path.glob("*/history.jsonl")
    assert [json.loads(line) for line in history.read_text().splitlines()] == [vars(e) for e in trained.history]


def test_the_same_seed_gives_the_same_bits(orl, pixels, tmp_path):
    first, second = (run("arcface", orl.split(0), pixels, tmp_path / name) for name in "ab")
    assert equal_states(first.backbone, second.backbone)
    assert equal_states(first.head, second.head)
    assert [e.train_loss for e in first.history] == [e.train_loss for e in second.history]
    assert torch.are_deterministic_algorithms_enabled()


def loss_file(folder, body):
    (folder / "mine.py").write_text(
        "import torch\nfrom torch import nn\nfrom lossbench import Head\n\nclass Mine(Head):\n    '''A test.'''\n"
        "    def __init__(self, num_classes, embedding_dim):\n        super().__init__()\n"
        "        self.weight = nn.Parameter(torch.ones(num_classes, embedding_dim))\n"
        f"    def forward(self, embeddings, labels):\n        return {body}\n"
    )
    return str(folder / "mine.py")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("embeddings.sum(1)", r"one differentiable number, not of shape \[32\]"),
        ("embeddings.sum() * float('nan')", "the loss became nan"),
        ("embeddings.sum() * float('inf')", "the loss became (inf|-inf|nan)"),
    ],
)
def test_a_loss_that_is_no_number_fails_with_its_reason(orl, pixels, tmp_path, body, reason):
    heard = []
    with pytest.raises(TrainingFailed, match=reason):
        run(loss_file(tmp_path, body), orl.split(0), pixels, tmp_path / "run", on_epoch=heard.append)
    assert heard == []
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_backbone_that_no_gradient_reached_is_noticed(orl, pixels, tmp_path, optimizer):
    config = settings(epochs=1, optimizer=optimizer)
    text = loss_file(tmp_path, "self.weight.square().sum() + 0 * embeddings.sum()")
    assert not run(text, orl.split(0), pixels, tmp_path / "still", config).moved
    assert run("ce", orl.split(0), pixels, tmp_path / "moved", config).moved


def test_dropout_acts_in_training(watched):
    """The seed of an epoch decides dropout: with it off, the same images and draws give another loss."""
    (_, on), (_, off) = watched("ce", settings(epochs=1)), watched("ce", settings(epochs=1, dropout=0.0))
    assert alike(on.images, off.images)
    assert on.losses[0] != off.losses[0]


def test_the_backbone_is_laid_out_as_the_images_are(watched):
    trained, _ = watched("ce", settings(epochs=1))
    weight = next(p for p in trained.backbone.parameters() if p.ndim == 4 and p.shape[1] > 3 and p.shape[2] > 1)
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert any(isinstance(module, nn.Dropout) and module.p == 0.2 for module in trained.backbone.modules())
