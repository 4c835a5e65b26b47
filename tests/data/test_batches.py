"""The order of an epoch, batches and augmentation."""

import math

import pytest
import torch
import torch.nn.functional as F

from lossbench.data.batches import augment, augmentation_draws, epoch_order, to_images


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


LABELS = torch.tensor([0] * 10 + [1] * 3 + [2] * 7 + [3] * 2 + [4] * 11)


@pytest.mark.parametrize("k", [None, 2, 4, 5])
@pytest.mark.parametrize("size", [8, 16, 33, 100])
def test_every_sampler_shows_the_same_number_of_images(k, size):
    order = epoch_order(LABELS, size, k, generator())
    assert order.shape == (33 // min(size, 33), min(size, 33))


def test_shuffling_shows_no_image_twice():
    order = epoch_order(LABELS, 8, None, generator()).flatten().tolist()
    assert len(set(order)) == len(order)


def test_p_x_k_batches_hold_k_images_of_each_person_and_go_round():
    people = torch.arange(20).repeat_interleave(6)
    order = epoch_order(people, 24, 4, generator())
    for batch in order:
        counts = people[batch].unique(return_counts=True)
        assert len(counts[0]) == 6
        assert set(counts[1].tolist()) == {4}
    seen = people[order].flatten().bincount(minlength=20)
    assert seen.max() - seen.min() <= 4
    for person in range(20):
        shown = order.flatten()[people[order].flatten() == person][:4].tolist()
        assert len(set(shown)) == 4, "a person's images come again only after all were shown"


@pytest.mark.parametrize("k", [None, 4])
def test_the_generator_decides_and_nothing_else(k):
    torch.manual_seed(0)
    first = epoch_order(LABELS, 8, k, generator(1))
    torch.manual_seed(1)
    assert torch.equal(epoch_order(LABELS, 8, k, generator(1)), first)
    assert not torch.equal(epoch_order(LABELS, 8, k, generator(2)), first)
    assert first.dtype == torch.int64


def test_no_batch_repeats_a_person_before_all_had_a_turn():
    people = torch.arange(10).repeat_interleave(8)
    order = epoch_order(people, 16, 4, generator())
    groups = people[order].view(-1, 4)[:, 0]
    assert (people[order].view(-1, 4) == groups.unsqueeze(1)).all()
    for start in (0, 10):
        assert sorted(groups[start : start + 10].tolist()) == list(range(10))


def test_a_batch_that_is_no_multiple_of_k_is_cut():
    people = torch.arange(10).repeat_interleave(8)
    order = epoch_order(people, 14, 4, generator())
    assert order.shape == (5, 14)
    assert all(sorted(people[batch].bincount().tolist(), reverse=True)[:4] == [4, 4, 4, 2] for batch in order)


def test_augmentation_is_drawn_from_its_generator_uniformly():
    torch.manual_seed(0)
    draws = augmentation_draws(torch.Size((50, 40)), generator(3))
    torch.manual_seed(1)
    assert torch.equal(augmentation_draws(torch.Size((50, 40)), generator(3)), draws)
    assert draws.shape == (50, 7, 40)
    assert draws.min() >= 0
    assert draws.max() < 1
    torch.testing.assert_close(draws.mean((0, 2)), torch.full((7,), 0.5), atol=0.03, rtol=0)


def test_batches_are_the_stored_pixels(pixels):
    rows = torch.tensor([5, 399, 5])
    batch = to_images(pixels[rows])
    assert batch.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(batch, pixels[rows].permute(0, 3, 1, 2) / 255)


NEUTRAL = torch.full((7, 1), 0.5)


def test_neutral_draws_change_nothing(pixels):
    image = to_images(pixels[torch.tensor([3])])
    torch.testing.assert_close(augment(image, NEUTRAL), image, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("which", "draw", "expected"),
    [
        (0, 0.0, lambda x: x.flip(3)),
        (6, 1.0, lambda x: (x + 0.2 * x.mean()).clamp(0, 1)),
        (5, 0.0, lambda x: (x.mean() + 0.8 * (x - x.mean())).clamp(0, 1)),
    ],
)
def test_each_draw_does_what_it_says(pixels, which, draw, expected):
    image = to_images(pixels[torch.tensor([3])])
    draws = NEUTRAL.clone()
    draws[which] = draw
    torch.testing.assert_close(augment(image, draws), expected(image), atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [(32, 32), (24, 32)])
def test_augmentation_is_what_affine_grid_and_plain_colour_arithmetic_give(pixels, side):
    images = to_images(pixels[torch.arange(0, 400, 40)])[:, :, : side[0], : side[1]]
    draws = augmentation_draws(torch.Size((1, 10)), generator())[0]
    flip, turn, zoom, x, y, contrast, brightness = draws * 2 - 1
    expected = []
    for i, image in enumerate(images):
        angle, scale, mirror = math.radians(10) * turn[i], 1 + 0.1 * zoom[i], -1 if flip[i] < 0 else 1
        cos, sin = scale * math.cos(angle), scale * math.sin(angle)
        matrix = torch.tensor([[cos * mirror, -sin, 0.12 * x[i]], [sin * mirror, cos, 0.12 * y[i]]])
        grid = F.affine_grid(matrix[None], [1, 3, *side], align_corners=False)
        moved = F.grid_sample(image[None], grid, padding_mode="border", align_corners=False)[0]
        mean = moved.mean()
        expected.append(((moved - mean) * (1 + 0.2 * contrast[i]) + mean * (1 + 0.2 * brightness[i])).clamp(0, 1))
    torch.testing.assert_close(augment(images, draws), torch.stack(expected), atol=1e-4, rtol=0)


def test_images_of_a_batch_draw_their_own_parameters(pixels):
    same = to_images(pixels[torch.tensor([3] * 8)])
    out = augment(same, augmentation_draws(torch.Size((1, 8)), generator())[0])
    assert all(not torch.allclose(out[i], out[j], atol=1e-3) for i in range(8) for j in range(i))
    assert out.min() >= 0
    assert out.max() <= 1
    assert (out - same).abs().mean() < 0.25, "still the same face"


def test_augmented_images_stay_in_range_and_the_given_ones_as_they_are():
    """Whatever is drawn: half of the draws are extremes, on images of black and white."""
    chance = generator()
    images = (torch.rand(64, 3, 12, 12, generator=chance) < 0.5).float()
    before = images.clone()
    out = augment(images, torch.rand(7, 64, generator=chance).round())
    assert torch.equal(images, before)
    assert out.min() == 0
    assert out.max() == 1
    assert out.dtype == torch.float32
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_half_of_the_images_are_mirrored():
    image = torch.linspace(0, 1, 12).expand(1, 3, 12, 12)
    draws = torch.full((7, 100), 0.5)
    draws[0] = torch.linspace(0, 0.99, 100)
    out = augment(image.expand(100, -1, -1, -1), draws)
    falling = out[:, 0, 6, 0] > out[:, 0, 6, -1]
    assert falling.tolist() == (draws[0] < 0.5).tolist()
    assert falling.sum() in (50, 51)


@pytest.mark.parametrize("k", [5, 6, 11])
def test_of_a_person_with_too_few_images_each_comes_equally_often(k):
    """More images are asked for than there are: all of them, then again, as evenly as it can be."""
    people = torch.tensor([0] * 2 + [1] * 3 + [2] * 40)
    order = epoch_order(people, 3 * k, k, generator())
    for batch in order:
        for person, count in ((0, 2), (1, 3)):
            shown = batch[people[batch] == person].bincount(minlength=45)[people == person]
            assert shown.sum() == k
            assert len(shown) == count
            assert shown.max() - shown.min() <= 1
        assert batch[people[batch] == 2].unique().numel() == k
