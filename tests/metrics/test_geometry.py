"""angle_statistics against plain loops with acos, and its invariances."""

import math

import pytest
import torch

from lossbench.metrics import angle_statistics


def plain(x, labels, centers=None):
    def unit(v):
        return [a / math.sqrt(sum(b * b for b in v)) for a in v]

    def angle(a, b):
        return math.degrees(math.acos(max(-1, min(1, sum(p * q for p, q in zip(a, b, strict=True))))))

    def mean(values):
        values = list(values)
        return sum(values) / len(values) if values else math.nan

    def nearest(rows):
        if len(rows) < 2:
            return math.nan
        return mean(min(angle(a, b) for j, b in enumerate(rows) if i != j) for i, a in enumerate(rows))

    rows, labels = [unit(v) for v in x.tolist()], labels.tolist()
    means = {
        c: unit([sum(col) for col in zip(*(r for r, k in zip(rows, labels, strict=True) if k == c), strict=True)])
        for c in sorted(set(labels))
    }
    w_ec = w_inter = math.nan
    if centers is not None:
        unit_centers = [unit(c) for c in centers.tolist()]
        w_ec, w_inter = mean(angle(unit_centers[c], m) for c, m in means.items()), nearest(unit_centers)
    intra = mean(angle(row, means[label]) for row, label in zip(rows, labels, strict=True))
    return w_ec, w_inter, intra, nearest([*means.values()])


@pytest.mark.parametrize("gap", [1, 3])
def test_equals_plain_loops(gap):
    torch.manual_seed(0)
    x, labels = torch.randn(40, 6, dtype=torch.float64), torch.arange(40) % 5 * gap
    centers = torch.randn(13, 6, dtype=torch.float64)
    got = angle_statistics(x, labels, centers)
    assert (got.w_ec, got.w_inter, got.intra, got.inter) == pytest.approx(plain(x, labels, centers), abs=1e-6)


def test_known_angles():
    x = torch.tensor([[1.0, 0], [1, 0], [0, 2], [0, 5]])
    got = angle_statistics(x, torch.tensor([0, 0, 1, 1]), centers=torch.tensor([[1.0, 0], [1, 1]]))
    assert (got.intra, got.inter) == pytest.approx((0, 90), abs=1e-4)
    assert (got.w_ec, got.w_inter) == pytest.approx((22.5, 45), abs=1e-4)


def test_norms_and_rotation_change_nothing():
    torch.manual_seed(1)
    x, labels = torch.randn(30, 5, dtype=torch.float64), torch.arange(30) % 4
    turn = torch.linalg.qr(torch.randn(5, 5, dtype=torch.float64)).Q
    before = angle_statistics(x, labels)
    after = angle_statistics(x @ turn * torch.rand(30, 1, dtype=torch.float64).add(0.1), labels)
    assert (after.intra, after.inter) == pytest.approx((before.intra, before.inter))


def test_nothing_to_measure_is_nan():
    got = angle_statistics(torch.randn(3, 4), torch.zeros(3, dtype=torch.int64))
    assert math.isnan(got.inter)
    assert math.isnan(got.w_ec)
    assert not math.isnan(got.intra)
