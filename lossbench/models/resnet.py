"""ResNet-10, the network of the `tiny` and `small` backbones, and the input normalisation of all backbones."""

from itertools import pairwise

import torch
from torch import Tensor, nn


class Normalise(nn.Module):
    """Images [B, 3, H, W] in 0..1 -> (x - mean) / std per channel. Saved with the weights."""

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(3, 1, 1))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised images [B, 3, H, W]."""
        return (images - self.mean) / self.std


class Block(nn.Module):
    """The basic residual block: two 3x3 convolutions, a 1x1 shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride]."""
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.relu(y + self.shortcut(x))
        return out


class ResNet10(nn.Sequential):
    """Image [B, 3, H, W] -> features [B, 8 * width]: stem, max-pool, one basic block per stage (arXiv:1512.03385)."""

    def __init__(self, width: int):
        stem = (
            nn.Conv2d(3, width, 3, 2, 1, bias=False),  # 3x3, not 7x7: the images are small
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        widths = (width, width, 2 * width, 4 * width, 8 * width)
        blocks = (Block(a, b, 1 if i == 0 else 2) for i, (a, b) in enumerate(pairwise(widths)))
        super().__init__(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
