"""MobileFaceNet, a face network of one million parameters. Chen et al. 2018, arXiv:1804.07573, table 1."""

from torch import Tensor, nn

BOTTLENECKS = (  # expansion, output channels, repetitions, stride of the first
    (2, 64, 5, 2),
    (4, 128, 1, 2),
    (2, 128, 6, 1),
    (4, 128, 1, 2),
    (2, 128, 2, 1),
)
FEATURES = 512


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, *, depthwise: bool = False) -> nn.Sequential:
    """A linear convolution and its batch normalisation."""
    groups = inputs if depthwise else 1
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Bottleneck(nn.Module):
    """MobileNetV2's inverted residual (arXiv:1801.04381) with PReLU."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int):
        super().__init__()
        wide = expansion * inputs
        self.residual = nn.Sequential(
            *_conv(inputs, wide, 1),
            nn.PReLU(wide),
            *_conv(wide, wide, 3, stride, depthwise=True),
            nn.PReLU(wide),
            *_conv(wide, outputs, 1),
        )
        self.has_shortcut = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, H, W] -> [B, outputs, H / stride, W / stride], rounded up."""
        out: Tensor = self.residual(x)
        return x + out if self.has_shortcut else out


class MobileFaceNet(nn.Sequential):
    """Image [B, 3, S, S] -> features [B, 512], by a depthwise convolution over all of the last map (GDConv).

    GDConv learns a weight for every place, where average pooling treats the rim of a face as its middle. A linear layer
    on the features is the paper's last row, a 1x1 convolution on a map of one place.
    """

    def __init__(self, image_size: int):
        blocks, inputs = [], 64
        for expansion, outputs, repetitions, stride in BOTTLENECKS:
            for i in range(repetitions):
                blocks.append(Bottleneck(inputs, outputs, expansion, stride if i == 0 else 1))
                inputs = outputs
        whole = nn.Conv2d(FEATURES, FEATURES, -(-image_size // 16), groups=FEATURES, bias=False)
        super().__init__(
            *_conv(3, 64, 3, 2),
            nn.PReLU(64),
            *_conv(64, 64, 3, depthwise=True),
            nn.PReLU(64),
            *blocks,
            *_conv(inputs, FEATURES, 1),
            nn.PReLU(FEATURES),
            whole,
            nn.BatchNorm2d(FEATURES),
            nn.Flatten(),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # fan-in: by fan-out, depthwise outputs would be so small that BN's running variance, which starts at 1,
                # takes hundreds of steps to follow them
                nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
