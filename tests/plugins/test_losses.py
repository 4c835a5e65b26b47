"""The shipped losses against pytorch-metric-learning, torch, and the papers' formulas as plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning import losses as pml

from lossbench import load_head

C, D = 9, 16
SIZES = {"num_classes": C, "embedding_dim": D}


def embeddings_at(angles, weight, labels):
    """Embeddings [B, D] of norm 1..3 at the given angles [B] (radians) from their own class's center."""
    own = F.normalize(weight.detach()[labels], dim=1)
    other = torch.randn_like(own)
    other = F.normalize(other - (other * own).sum(1, keepdim=True) * own, dim=1)
    norms = torch.linspace(1, 3, len(angles), dtype=own.dtype).unsqueeze(1)
    return ((own * angles.cos().unsqueeze(1) + other * angles.sin().unsqueeze(1)) * norms).requires_grad_()


def value_and_gradients(loss, x, weight):
    return loss.item(), *torch.autograd.grad(loss, (x, weight))


@pytest.mark.parametrize(
    ("spec", "oracle"),
    [
        ("arcface", lambda: pml.ArcFaceLoss(C, D, margin=math.degrees(0.5), scale=64)),  # 2.9 takes degrees
        ("arcface:margin=0.3:scale=32", lambda: pml.ArcFaceLoss(C, D, margin=math.degrees(0.3), scale=32)),
        ("cosface", lambda: pml.CosFaceLoss(C, D, margin=0.35, scale=64)),
        ("cosface:margin=0.2:scale=16", lambda: pml.CosFaceLoss(C, D, margin=0.2, scale=16)),
    ],
)
def test_margin_losses_agree_with_pytorch_metric_learning(spec, oracle):
    torch.manual_seed(0)
    head, reference = load_head(spec, **SIZES).double(), oracle().double()
    with torch.no_grad():
        reference.W.copy_(head.weight.T)
    for angle in torch.linspace(0.06, math.pi - 0.06, 60, dtype=torch.float64):
        labels = torch.randint(C, (4,))
        x = embeddings_at(angle.repeat(4), head.weight, labels)
        loss, gx, gw = value_and_gradients(head(x, labels), x, head.weight)
        expected, egx, egw = value_and_gradients(reference(x, labels), x, reference.W)
        assert loss == pytest.approx(expected, abs=1e-5)
        torch.testing.assert_close(gx, egx, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(gw, egw.T, atol=1e-5, rtol=1e-5)


def test_arcface_keeps_falling_past_pi():
    """Where theta + m > pi the target is c - m·sin(m): it falls on, and continues the curve without a jump upwards."""
    head = load_head("arcface", **SIZES)
    c = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    pushed = head.push(c)
    assert (pushed.diff() > 0).all()
    far = c < -math.cos(0.5)
    torch.testing.assert_close(pushed[far], c[far] - 0.5 * math.sin(0.5))


def test_ce_agrees_with_a_linear_layer_and_cross_entropy():
    torch.manual_seed(1)
    head, layer = load_head("ce", **SIZES), torch.nn.Linear(D, C)
    layer.load_state_dict({"weight": head.weight, "bias": head.bias})
    x, labels = torch.randn(20, D, requires_grad=True), torch.randint(C, (20,))
    expected = F.cross_entropy(layer(x), labels)
    assert torch.equal(head(x, labels), expected)
    grad, expected_grad = (torch.autograd.grad(loss, x)[0] for loss in (head(x, labels), expected))
    assert torch.equal(grad, expected_grad)
    assert torch.equal(head.logits(x), layer(x))


def plain_sphereface(x, w, labels, m, lam):
    """Liu et al. 2017 as written: psi by k and acos, the weights normalised, no scale but the embedding's norm."""
    total = 0.0
    for xi, own in zip(x.tolist(), labels.tolist(), strict=True):
        norm = math.sqrt(sum(a * a for a in xi))
        z = []
        for j, wj in enumerate(w.tolist()):
            c = sum(a * b for a, b in zip(xi, wj, strict=True)) / norm / math.sqrt(sum(b * b for b in wj))
            if j == own:
                theta = math.acos(max(-1.0, min(1.0, c)))
                k = min(int(m * theta / math.pi), m - 1)
                psi = (-1) ** k * math.cos(m * theta) - 2 * k
                c = (lam * c + psi) / (1 + lam)
            z.append(norm * c)
        total += math.log(sum(math.exp(v - max(z)) for v in z)) + max(z) - z[own]
    return total / len(labels)


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_sphereface_equals_the_papers_psi_at_lambda_0(margin):
    torch.manual_seed(2)
    head = load_head(f"sphereface:margin={margin}:lambda_min=0", **SIZES).double()
    angles = torch.linspace(0.01, math.pi - 0.01, 40, dtype=torch.float64)
    labels = torch.randint(C, (40,))
    x = embeddings_at(angles, head.weight, labels)
    got = head.eval()(x, labels).item()
    assert got == pytest.approx(plain_sphereface(x, head.weight, labels, margin, 0.0), rel=1e-9)


@pytest.mark.parametrize(("share", "lam"), [(None, 5.0), (0.0, 1000.0), (0.5, math.sqrt(1001 * 6) - 1), (1.0, 5.0)])
def test_sphereface_anneals_with_the_share_of_the_training(share, lam):
    torch.manual_seed(3)
    head = load_head("sphereface", **SIZES).double()
    if share is not None:
        head.progress(share)
    labels = torch.randint(C, (12,))
    x = embeddings_at(torch.linspace(0.1, 3, 12, dtype=torch.float64), head.weight, labels)
    assert head(x, labels).item() == pytest.approx(plain_sphereface(x, head.weight, labels, 4, lam), rel=1e-9)


def test_sphereface_keeps_lambda_in_its_state():
    head = load_head("sphereface:lambda_min=0", **SIZES)
    head.progress(0.25)
    assert head.state_dict()["annealing"].item() == pytest.approx(1001**0.75 - 1)


def test_triplet_is_the_mean_over_semi_hard_triplets():
    torch.manual_seed(4)
    head = load_head("triplet:margin=0.3", **SIZES)
    x, labels = torch.randn(16, D), torch.arange(16) % 4
    unit = F.normalize(x.double(), dim=1)
    d = (unit.unsqueeze(1) - unit.unsqueeze(0)).pow(2).sum(2)
    losses = [
        (d[a, p] - d[a, n] + 0.3).item()
        for a in range(16)
        for p in range(16)
        for n in range(16)
        if a != p and labels[a] == labels[p] and labels[a] != labels[n] and 0 < d[a, n] - d[a, p] < 0.3
    ]
    assert len(losses) > 10
    assert head(x, labels).item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_arcface_triplet_is_that_mix():
    torch.manual_seed(5)
    named = load_head("arcface_triplet:margin=0.4:triplet_weight=0.5", **SIZES)
    torch.manual_seed(5)
    mixed = load_head("arcface:margin=0.4+0.5*triplet", **SIZES)
    x, labels = torch.randn(16, D), torch.arange(16) % 4
    assert torch.equal(named(x, labels), mixed(x, labels))
