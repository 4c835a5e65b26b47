"""ResNet-10 against torchvision's blocks with the same weights."""

import math

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock
from torchvision.transforms.functional import normalize

from lossbench.models.resnet import Block, Normalise, ResNet10


def torchvisions(block):
    """Return torchvision's block with the weights and statistics of ours."""
    conv = block.conv1
    shortcut = None if isinstance(block.shortcut, nn.Identity) else block.shortcut
    other = BasicBlock(conv.in_channels, conv.out_channels, conv.stride[0], downsample=shortcut)
    for name in ("conv1", "bn1", "conv2", "bn2"):
        getattr(other, name).load_state_dict(getattr(block, name).state_dict())
    return other


def with_statistics(module):
    """Give batch norms other weights and statistics than 1 and 0, and switch to evaluation mode."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 6, 1), (4, 4, 2), (4, 8, 2)])
@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_a_block_is_torchvisions(inputs, outputs, stride, training):
    torch.manual_seed(0)
    block = with_statistics(Block(inputs, outputs, stride)).train(training)
    other = torchvisions(block).train(training)
    images = torch.randn(3, inputs, 9, 8)
    found = block(images.clone())
    assert found.shape == (3, outputs, math.ceil(9 / stride), math.ceil(8 / stride))
    torch.testing.assert_close(found, other(images))


@torch.no_grad()
def test_the_network_is_a_stem_four_blocks_and_the_mean_over_places():
    torch.manual_seed(0)
    net = with_statistics(ResNet10(4))
    images = torch.rand(2, 3, 40, 32)
    conv, norm = net[0], net[1]
    x = nn.functional.conv2d(images, conv.weight, stride=2, padding=1)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    x = (x - norm.running_mean.view(-1, 1, 1)) * scale.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)
    x = nn.functional.max_pool2d(x.relu(), 3, 2, 1)
    blocks = [module for module in net if isinstance(module, Block)]
    for block in blocks:
        x = torchvisions(block).eval()(x)
    assert [(b.conv1.in_channels, b.conv1.out_channels, b.conv1.stride[0]) for b in blocks] == [
        (4, 4, 1), (4, 8, 2), (8, 16, 2), (16, 32, 2)
    ]  # fmt: skip
    assert net(images).shape == (2, 32)
    torch.testing.assert_close(net(images), x.mean((2, 3)))


def test_convolutions_start_as_he_et_al_say():
    """A standard deviation of sqrt(2 / fan-out), of which a sample of so many weights is within 5 %."""
    torch.manual_seed(0)
    for conv in (m for m in ResNet10(32).modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 5000):
        fan_out = conv.out_channels * math.prod(conv.kernel_size)
        assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
        assert abs(conv.weight.mean().item()) < 0.05 * math.sqrt(2 / fan_out)


def test_images_are_normalised_as_torchvision_does_and_the_statistics_are_saved():
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    images = torch.rand(2, 3, 5, 4)
    saved = Normalise(mean, std)
    torch.testing.assert_close(saved(images), normalize(images, mean, std))
    other = Normalise((0.5,) * 3, (0.5,) * 3)
    other.load_state_dict(saved.state_dict())
    assert torch.equal(other(images), saved(images))
