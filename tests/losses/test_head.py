"""margin_softmax, cosine, linear and Mix against plain float64 arithmetic."""

import math

import pytest
import torch
import torch.nn.functional as F

from lossbench import Mix, cosine, linear, load_head, margin_softmax

SIZES = {"num_classes": 7, "embedding_dim": 5}


def plain_margin_softmax(x, w, labels, push, scale):
    """The loss as a loop over samples and classes."""
    total = 0.0
    for i, own in enumerate(labels.tolist()):
        z = []
        for j in range(len(w)):
            c = sum(a * b for a, b in zip(x[i].tolist(), w[j].tolist(), strict=True))
            c /= math.sqrt(sum(a * a for a in x[i].tolist())) * math.sqrt(sum(b * b for b in w[j].tolist()))
            z.append(scale * (push(c) if j == own else c))
        total += math.log(sum(math.exp(v - max(z)) for v in z)) + max(z) - z[own]
    return total / len(labels)


def test_margin_softmax_equals_a_loop():
    torch.manual_seed(0)
    x, w = torch.randn(6, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    labels = torch.randint(7, (6,))
    got = margin_softmax(x, w, labels, lambda c: c - 0.35, 64.0)
    assert got.item() == pytest.approx(plain_margin_softmax(x, w, labels, lambda c: c - 0.35, 64.0), rel=1e-12)


def test_scale_per_sample_equals_scaling_each_row():
    torch.manual_seed(1)
    x, w, labels = torch.randn(4, 5).double(), torch.randn(7, 5).double(), torch.tensor([0, 6, 3, 3])
    scales = torch.tensor([1.0, 10.0, 30.0, 64.0]).double()
    alone = [margin_softmax(x[i : i + 1], w, labels[i : i + 1], lambda c: c, s.item()) for i, s in enumerate(scales)]
    assert margin_softmax(x, w, labels, lambda c: c, scales).item() == pytest.approx(torch.stack(alone).mean().item())


def test_margin_softmax_gradcheck():
    torch.manual_seed(2)
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)
    w = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 6, 3])
    assert torch.autograd.gradcheck(lambda a, b: margin_softmax(a, b, labels, lambda c: c * 0.9 - 0.1, 8.0), (x, w))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_logits_stay_float32_under_autocast_and_weights_keep_their_dtype(dtype):
    x, w = torch.randn(4, 5).to(dtype), torch.randn(7, 5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert cosine(x, w).dtype == torch.float32
        assert linear(x, w).dtype == torch.float32
        exact = F.normalize(x.double(), dim=1) @ F.normalize(w.double(), dim=1).T
        torch.testing.assert_close(cosine(x, w).double(), exact, atol=1e-6, rtol=0)
    assert w.dtype == torch.float32


@pytest.mark.parametrize("spec", ["ce", "arcface", "cosface", "sphereface", "triplet", "arcface_triplet"])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_gradients_are_finite_where_embedding_and_center_are_parallel(spec, sign):
    torch.manual_seed(3)
    head = load_head(spec, **SIZES)
    centers = head.class_centers()
    x = (sign * (torch.eye(7, 5) if centers is None else centers)).clone().requires_grad_()
    head(x, torch.arange(7)).backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


def test_mix_is_the_weighted_sum_of_its_parts():
    torch.manual_seed(4)
    arcface, triplet = load_head("arcface", **SIZES), load_head("triplet", **SIZES)
    x, labels = torch.randn(12, 5), torch.arange(12) % 3
    mix = Mix((1.0, arcface), (0.5, triplet))
    assert mix(x, labels).item() == pytest.approx((arcface(x, labels) + 0.5 * triplet(x, labels)).item())
    assert mix.samples_per_class == 4
    assert torch.equal(mix.logits(x), arcface.logits(x))
    assert torch.equal(mix.class_centers(), arcface.class_centers())


def test_logits_carry_no_margin():
    head = load_head("arcface", **SIZES)
    x = torch.randn(3, 5)
    torch.testing.assert_close(head.logits(x), F.normalize(x, dim=1) @ F.normalize(head.weight, dim=1).T)
    assert load_head("triplet", **SIZES).logits(x) is None
    assert load_head("triplet", **SIZES).class_centers() is None
