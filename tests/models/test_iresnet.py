"""ArcFace's residual networks against their block written out, and their shapes against the reference's."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossbench.models.iresnet import LAYERS, IBlock, IResNet


def with_statistics(module):
    """Give batch norms and PReLUs other values than they start with, and switch to evaluation mode."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
        if isinstance(layer, nn.PReLU):
            nn.init.uniform_(layer.weight, 0.1, 0.9)
    return module.eval()


def normal(x, layer):
    shape = (1, -1, 1, 1)
    scaled = (x - layer.running_mean.view(shape)) / (layer.running_var.view(shape) + 1e-5).sqrt()
    return scaled * layer.weight.view(shape) + layer.bias.view(shape)


def prelu(x, layer):
    return torch.where(x > 0, x, layer.weight.view(1, -1, 1, 1) * x)


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 6, 2), (4, 4, 2)])
@torch.no_grad()
def test_a_block_is_arcfaces(inputs, outputs, stride):
    """BN-conv-BN-PReLU-conv-BN with the stride in the second convolution; no non-linearity after the sum."""
    torch.manual_seed(0)
    block = with_statistics(IBlock(inputs, outputs, stride))
    x = torch.randn(3, inputs, 9, 8)
    first, conv1, second, slope, conv2, third = block.residual
    y = prelu(normal(F.conv2d(normal(x, first), conv1.weight, padding=1), second), slope)
    y = normal(F.conv2d(y, conv2.weight, stride=stride, padding=1), third)
    shortcut = x
    if (inputs, stride) != (outputs, 1):
        conv, norm = block.shortcut
        shortcut = normal(F.conv2d(x, conv.weight, stride=stride), norm)
    torch.testing.assert_close(block(x), y + shortcut)
    assert block(x).min() < 0


@pytest.mark.parametrize(
    ("name", "parameters"), [("iresnet18", 24_025_600), ("iresnet50", 43_590_848), ("iresnet100", 65_156_160)]
)
def test_the_networks_have_the_weights_of_the_reference(name, parameters):
    """Counted from the layers of insightface's recognition/arcface_torch/backbones/iresnet.py, with its 512 outputs."""
    count, inputs = 3 * 64 * 9 + 2 * 64 + 64, 64  # stem: convolution, BN, PReLU
    for outputs, blocks in zip((64, 128, 256, 512), LAYERS[name], strict=True):
        count += inputs * outputs + 2 * outputs  # the shortcut of the first block
        for _ in range(blocks):
            count += 2 * inputs + 9 * inputs * outputs + 2 * outputs + outputs + 9 * outputs * outputs + 2 * outputs
            inputs = outputs
    count += 2 * 512  # BN
    last = 512 * 7 * 7 * 512 + 512 + 2 * 512  # fully connected with bias, BN: in build_backbone
    assert count + last == parameters
    assert sum(p.numel() for p in IResNet(LAYERS[name]).parameters()) == count


@torch.no_grad()
def test_the_stem_keeps_the_resolution_and_each_stage_halves_it():
    net = IResNet(LAYERS["iresnet18"]).eval()
    x, sides = torch.rand(2, 3, 50, 50), []
    for layer in net:
        x = layer(x)
        sides.append(x.shape[-1])
    assert sides == [50, 50, 50, 25, 13, 7, 4, 4, 512 * 4 * 4]


@torch.no_grad()
def test_the_deepest_network_is_finite_before_it_has_any_statistics():
    """The entrant `untrained` is measured so; weights of N(0, 0.1), as insightface draws them, overflow here."""
    torch.manual_seed(0)
    assert torch.isfinite(IResNet(LAYERS["iresnet100"]).eval()(torch.rand(1, 3, 32, 32))).all()
