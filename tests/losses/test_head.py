"""margin_softmax, cosine, linear and Mix against plain float64 arithmetic."""

import math

import pytest
import torch
import torch.nn.functional as F

from lossbench import Head, Mix, add_angle, cosine, linear, load_head, margin_softmax
from lossbench.losses.head import angle, is_own, margin_cross_entropy, own_cosine

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


class Bare(Head):
    def forward(self, embeddings, labels):
        return embeddings.sum()


def test_a_head_declares_nothing_unless_it_says_so():
    head = Bare()
    assert head.samples_per_class is None
    assert head.uses_norm is False
    assert head.stops_gradient == ""
    assert head.plain_at is None
    assert head.margin_in_degrees is False
    assert head.logits(torch.ones(2, 3)) is None
    assert head.class_centers() is None


def declaring(**declared):
    head = Bare()
    for name, value in declared.items():
        setattr(head, name, value)
    return head


def test_a_mix_declares_what_its_parts_do():
    plain, other = Bare(), declaring(samples_per_class=2, uses_norm=True, stops_gradient="the scale")
    third = declaring(samples_per_class=6, stops_gradient="the weights")
    mix = Mix((1.0, plain), (0.5, other), (2.0, third))
    assert mix.samples_per_class == 6
    assert mix.uses_norm is True
    assert mix.stops_gradient == "the scale; the weights"
    alone = Mix((1.0, plain), (2.0, Bare()))
    assert (alone.samples_per_class, alone.uses_norm, alone.stops_gradient) == (None, False, "")
    assert alone.logits(torch.ones(2, 3)) is None
    assert alone.class_centers() is None
    assert mix(torch.ones(2, 3), torch.zeros(2)).item() == 6 * 3.5


def test_scores_and_centers_of_a_mix_are_those_of_the_first_part_that_has_them():
    torch.manual_seed(0)
    x, first, second = torch.randn(4, 5), load_head("cosface", **SIZES), load_head("arcface", **SIZES)
    mix = Mix((1.0, Bare()), (1.0, first), (1.0, second))
    assert torch.equal(mix.logits(x), first.logits(x))
    assert torch.equal(mix.class_centers(), first.class_centers())


def test_centers_are_unit_rows_without_a_gradient():
    head = load_head("arcface", **SIZES)
    torch.testing.assert_close(head.class_centers().norm(dim=1), torch.ones(7))
    assert not head.class_centers().requires_grad


@pytest.mark.parametrize("cos", [1.0, -1.0, 0.999999, 0.0])
@pytest.mark.parametrize("map_", [angle, lambda c: add_angle(c, 0.5), lambda c: add_angle(c, torch.tensor([0.5]))])
def test_angles_have_a_finite_slope_everywhere(map_, cos):
    x = torch.tensor([cos], requires_grad=True)
    map_(x).sum().backward()
    assert x.grad.isfinite().all()
    assert x.grad.abs().max() < 1e4


def test_angles_are_those_of_acos():
    cos = torch.linspace(-0.99, 0.99, 199, dtype=torch.float64)
    torch.testing.assert_close(angle(cos), cos.acos())
    theta = cos.acos()
    near = theta + 0.5 < math.pi
    expected = torch.where(near, (theta + 0.5).cos(), cos - 0.5 * math.sin(0.5))
    assert 0 < (~near).sum() < 199
    torch.testing.assert_close(add_angle(cos, 0.5), expected)
    torch.testing.assert_close(add_angle(cos, torch.full_like(cos, 0.5)), expected)


@pytest.mark.parametrize("margin", [0.2, 0.5, 1.0])
def test_a_larger_angle_never_scores_higher_with_the_margin(margin):
    pushed = add_angle(torch.linspace(-1, 1, 1001, dtype=torch.float64), margin)
    steps = pushed.diff()
    assert (steps > 0).sum() >= len(steps) - 1, "but for the step down where the fall-back begins"


def test_cross_entropy_of_given_cosines_is_margin_softmax():
    torch.manual_seed(5)
    x, w, labels = torch.randn(6, 5).double(), torch.randn(7, 5).double(), torch.tensor([0, 6, 3, 3, 1, 2])
    got = margin_cross_entropy(cosine(x, w), labels, lambda c: c - 0.2, 16.0)
    torch.testing.assert_close(got, margin_softmax(x, w, labels, lambda c: c - 0.2, 16.0))


def test_own_cosines_are_constants_of_the_own_class():
    torch.manual_seed(6)
    x, w, labels = torch.randn(4, 5, requires_grad=True), torch.randn(7, 5, requires_grad=True), torch.arange(4)
    found = own_cosine(x, w, labels)
    torch.testing.assert_close(found, cosine(x, w).diagonal().detach())
    assert not found.requires_grad
    assert own_cosine(x.bfloat16(), w.bfloat16(), labels).dtype == torch.float32


def test_linear_adds_its_bias_and_keeps_wide_numbers_wide():
    torch.manual_seed(7)
    x, w, b = torch.randn(4, 5), torch.randn(7, 5), torch.randn(7)
    torch.testing.assert_close(linear(x, w, b), x @ w.T + b)
    assert linear(x.double(), w, b).dtype == torch.float64
    assert linear(x, w.double(), b).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(linear(x.bfloat16(), w, b), x.bfloat16().float() @ w.T + b, rtol=0.02, atol=0.05)
        assert linear(x, w, b).dtype == torch.float32
        exact = x.double() @ w.double().T + b
        torch.testing.assert_close(linear(x, w, b).double(), exact, atol=1e-5, rtol=0)


def test_the_own_class_is_marked():
    mask = is_own(torch.tensor([2, 0, 2]), 4)
    assert mask.dtype == torch.bool
    assert mask.nonzero().tolist() == [[0, 2], [1, 0], [2, 2]]
    assert mask.shape == (3, 4)
    with pytest.raises(RuntimeError):
        is_own(torch.tensor([4]), 4)


class Told(Head):
    def __init__(self):
        super().__init__()
        self.register_buffer("share", torch.ones(()))

    def progress(self, share):
        self.share.fill_(share)

    def forward(self, embeddings, labels):
        return embeddings.mean() * self.share


def test_a_mix_tells_its_parts_how_far_the_training_is():
    first, second = Told(), Told()
    mix = Mix((1.0, first), (0.5, Mix((1.0, second), (1.0, load_head("ce", **SIZES)))))
    mix.progress(0.25)
    assert (first.share.item(), second.share.item()) == (0.25, 0.25)
