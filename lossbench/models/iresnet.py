"""The improved residual networks that ArcFace is trained with. Deng et al. 2019, arXiv:1801.07698, sec. 3.1."""

from itertools import pairwise

from torch import Tensor, nn

LAYERS = {"iresnet18": (2, 2, 2, 2), "iresnet50": (3, 4, 14, 3), "iresnet100": (3, 13, 30, 3)}  # blocks of each stage
WIDTHS = (64, 64, 128, 256, 512)  # channels of the stem and of each stage


class IBlock(nn.Module):
    """The improved residual block: BN-conv-BN-PReLU-conv-BN, its stride in the second convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.residual = nn.Sequential(
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
            nn.Conv2d(outputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride], rounded up."""
        out: Tensor = self.residual(x) + self.shortcut(x)
        return out


class IResNet(nn.Sequential):
    """Image [B, 3, H, W] -> features [B, 512 * ceil(H / 16) * ceil(W / 16)]: every place keeps its own, unaveraged.

    The stem keeps the resolution; each of the four stages halves it.
    """

    def __init__(self, layers: tuple[int, ...]):
        stem = (nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False), nn.BatchNorm2d(WIDTHS[0]), nn.PReLU(WIDTHS[0]))
        stages = (
            nn.Sequential(IBlock(inputs, outputs, 2), *(IBlock(outputs, outputs, 1) for _ in range(blocks - 1)))
            for (inputs, outputs), blocks in zip(pairwise(WIDTHS), layers, strict=True)
        )
        super().__init__(*stem, *stages, nn.BatchNorm2d(WIDTHS[-1]), nn.Flatten())
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # insightface draws N(0, 0.1), with which an untrained iresnet100 overflows in evaluation
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
