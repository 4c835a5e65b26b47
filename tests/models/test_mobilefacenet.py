"""MobileFaceNet against table 1 of its paper, and its block written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lossbench.models.mobilefacenet import Bottleneck, MobileFaceNet

TABLE_1 = (  # output channels and side of each row of arXiv:1804.07573, table 1, repetitions written out
    [(64, 56)] * 2 + [(64, 28)] * 5 + [(128, 14)] * 7 + [(128, 7)] * 3 + [(512, 7), (512, 1)]
)


@torch.no_grad()
def test_every_row_of_the_papers_table_has_its_shape():
    net, x, rows = MobileFaceNet(112).eval(), torch.rand(2, 3, 112, 112), []
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | Bottleneck):
            rows.append((x.shape[1], x.shape[2]))
    assert rows == TABLE_1
    assert x.shape == (2, 512)


def test_the_number_of_weights_is_the_tables():
    """Convolutions row by row, with their BN and, but for the linear ones, PReLU."""
    count, inputs = 3 * 64 * 9 + 3 * 64 + 9 * 64 + 3 * 64, 64
    for t, c, n in ((2, 64, 5), (4, 128, 1), (2, 128, 6), (4, 128, 1), (2, 128, 2)):
        for _ in range(n):
            wide = t * inputs
            count += inputs * wide + 3 * wide + 9 * wide + 3 * wide + wide * c + 2 * c
            inputs = c
    count += 128 * 512 + 3 * 512 + 49 * 512 + 2 * 512
    assert sum(p.numel() for p in MobileFaceNet(112).parameters()) == count == 937_344


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(4, 4, 1), (4, 4, 2), (4, 6, 1)])
@torch.no_grad()
def test_a_bottleneck_is_an_inverted_residual_with_a_linear_end(inputs, outputs, stride):
    torch.manual_seed(0)
    block = Bottleneck(inputs, outputs, 3, stride).eval()
    x = torch.randn(2, inputs, 9, 8)
    wide, _, slope, deep, _, second, narrow, _ = block.residual
    scale = (1 + 1e-5) ** -0.5  # what a fresh BN does in evaluation
    y = F.prelu(F.conv2d(x, wide.weight) * scale, slope.weight)
    y = F.prelu(F.conv2d(y, deep.weight, stride=stride, padding=1, groups=3 * inputs) * scale, second.weight)
    y = F.conv2d(y, narrow.weight) * scale
    torch.testing.assert_close(block(x), x + y if (inputs, stride) == (outputs, 1) else y)


@torch.no_grad()
def test_the_global_convolution_weighs_every_place_of_a_channel_by_itself():
    torch.manual_seed(0)
    net = MobileFaceNet(48).eval()
    *body, whole, norm, flat = net
    x = nn.Sequential(*body)(torch.rand(2, 3, 48, 48))
    assert x.shape == (2, 512, 3, 3)
    expected = torch.einsum("bchw,chw->bc", x, whole.weight[:, 0]) * (1 + 1e-5) ** -0.5
    torch.testing.assert_close(flat(norm(whole(x))), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_no_layer_starts_with_outputs_so_small_that_running_variances_lag_behind():
    """With weights drawn by fan-out, depthwise outputs start near 1e-3, and a net of 80 steps fails in evaluation."""
    torch.manual_seed(0)
    net, variances = MobileFaceNet(64), []
    for norm in (m for m in net.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.register_forward_pre_hook(lambda _, given: variances.append(given[0].var().item()))
    net(2 * torch.rand(16, 3, 64, 64) - 1)
    assert len(variances) == 49
    assert 0.1 < min(variances) < max(variances) < 30
