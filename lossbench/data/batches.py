"""From packed images to batches on the device: the order of an epoch, the batch itself, and its augmentation."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def epoch_order(labels: Tensor, batch_size: int, samples_per_class: int | None, generator: torch.Generator) -> Tensor:
    """Return the images of one epoch as positions [steps, batch_size] (int64, CPU), full batches only.

    Both samplers give the same number of images for the same data and batch size, so that entrants with different
    samplers see equally many. Where there are fewer images than a batch holds, the batch is all of them.

    Args:
        labels: [N] int64 on the CPU.
        batch_size: images per step.
        samples_per_class: None shuffles; K builds P x K batches: people in turn, K images of each, every person's
            images used up before one comes again.
        generator: decides everything.
    """
    size = min(batch_size, len(labels))
    steps = len(labels) // size
    if samples_per_class is None:
        return torch.randperm(len(labels), generator=generator)[: steps * size].view(steps, size)
    groups = math.ceil(size / samples_per_class)
    people = _InTurn(torch.arange(int(labels.max()) + 1), generator)
    by_person = torch.split(torch.argsort(labels, stable=True), torch.bincount(labels).tolist())
    images = [_InTurn(positions, generator) for positions in by_person]
    batches = [
        torch.cat([images[person].take(samples_per_class) for person in people.take(groups).tolist()])[:size]
        for _ in range(steps)
    ]
    return torch.stack(batches)


class _InTurn:
    """Deals shuffled items round by round; no draw holds an item twice unless it asks for more than there are."""

    def __init__(self, items: Tensor, generator: torch.Generator):
        self.items, self.generator = items, generator
        self.left = items[:0]

    def take(self, count: int) -> Tensor:
        drawn, self.left = self.left[:count], self.left[count:]
        while len(drawn) < count:
            fresh = self.items[torch.randperm(len(self.items), generator=self.generator)]
            again = torch.isin(fresh, drawn) if count <= len(self.items) else torch.zeros_like(fresh, dtype=torch.bool)
            fresh, missing = torch.cat([fresh[~again], fresh[again]]), count - len(drawn)
            drawn, self.left = torch.cat([drawn, fresh[:missing]]), fresh[missing:]
        return drawn


def to_images(pixels: Tensor) -> Tensor:
    """Return `pixels` [B, H, W, 3] uint8 as float32 [B, 3, H, W] in 0..1, channels_last."""
    return pixels.permute(0, 3, 1, 2).to(torch.float32).div_(255)


def augmentation_draws(order: torch.Size, generator: torch.Generator) -> Tensor:
    """Draw what `augment` needs for an epoch of `order` (steps, B): [steps, 7, B] in 0..1, alike for every device."""
    steps, batch_size = order
    return torch.rand(steps, 7, batch_size, generator=generator)


def augment(images: Tensor, draws: Tensor) -> Tensor:
    """Return training images as augmented for this step: flip, small affine, brightness and contrast.

    Each image has its own parameters: mirrored with probability 1/2; turned by up to 10 degrees, scaled by 0.9 to
    1.1, shifted by up to 6 % of the side (borders repeated); contrast about its own mean and brightness each times
    0.8 to 1.2.

    Args:
        images: [B, 3, H, W] float32 in 0..1.
        draws: [7, B] uniform in 0..1 on the same device, from `augmentation_draws`.

    Returns:
        [B, 3, H, W] float32 in 0..1, channels_last.
    """
    mirror = (draws[0] < 0.5).to(images.dtype) * -2 + 1
    angle = _within(draws[1], math.radians(10))
    scale = 1 + _within(draws[2], 0.1)
    shift = _within(draws[3:5], 0.12)  # [2, B]; grid coordinates span 2 a side
    cos, sin = torch.cos(angle) * scale, torch.sin(angle) * scale
    per_column, per_row = torch.stack([cos, sin]) * mirror, torch.stack([-sin, cos])
    grid = _grid(per_column, per_row, shift, images.shape[2], images.shape[3])
    # Sampling reads one channel at a time, so that channels_last is the slow layout here, and here alone.
    moved = F.grid_sample(images.contiguous(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    contrast, brightness = (1 + _within(d, 0.2).view(-1, 1, 1, 1) for d in draws[5:7])
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    moved = moved.mul_(contrast).add_(mean * (brightness - contrast)).clamp_(0, 1)  # (x - mean) c + mean b
    return moved.contiguous(memory_format=torch.channels_last)


def _grid(per_column: Tensor, per_row: Tensor, shift: Tensor, height: int, width: int) -> Tensor:
    """Return where to sample [B, H, W, 2] from slopes and shift [2, B] (x; y): `F.affine_grid`, without its product."""
    x, y = ((torch.arange(n, device=shift.device, dtype=shift.dtype) * 2 + 1) / n - 1 for n in (width, height))
    along_columns = per_column[..., None] * x  # [2, B, W]
    along_rows = per_row[..., None] * y + shift[..., None]  # [2, B, H]
    return (along_rows[..., None] + along_columns[:, :, None]).permute(1, 2, 3, 0)


def _within(draw: Tensor, limit: float) -> Tensor:
    return (draw * 2 - 1) * limit
