"""Sums over classes in blocks against the plain form that holds the whole [B, C]."""

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from tracing import Allocations, HostTrips

from lossbench import load_head, sum_over_classes
from lossbench.losses import blocked_softmax, blocked_sum, head

B, C, D = 7, 23, 5
LOSSES = ("uniface", "sphereface2", "p2sgrad", "proxy_anchor")


@pytest.fixture(params=[C, 4], ids=["one block", "six blocks"])
def in_blocks(request, monkeypatch):
    monkeypatch.setattr(head, "WHOLE_NUMBERS", 0)
    monkeypatch.setattr(blocked_sum, "plan", lambda *sizes, plain: blocked_softmax.Plan(request.param, False))


def given(seed=0, dtype=torch.float64):
    torch.manual_seed(seed)
    x, w = torch.randn(B, D, dtype=dtype, requires_grad=True), torch.randn(C, D, dtype=dtype, requires_grad=True)
    return x, w, torch.randint(C, (B,)), torch.tensor(0.5, dtype=dtype, requires_grad=True)


def part(cos, own, bias):
    return torch.where(own, F.softplus(bias - 3 * cos), F.softplus(2 * cos - bias) * bias).sum(1)


def plain(x, w, labels, bias):
    cos = F.normalize(x, dim=1) @ F.normalize(w, dim=1).T
    return part(cos, F.one_hot(labels, len(w)).bool(), bias)


@pytest.mark.usefixtures("in_blocks")
def test_values_and_every_gradient_equal_the_plain_form():
    x, w, labels, bias = given()
    new, old = sum_over_classes(x, w, labels, part, bias), plain(x, w, labels, bias)
    torch.testing.assert_close(new, old, rtol=1e-12, atol=0)
    weights = torch.randn(B, dtype=torch.float64)
    ends = [torch.autograd.grad((found * weights).sum(), (x, w, bias)) for found in (new, old)]
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("in_blocks")
def test_gradcheck():
    x, w, labels, bias = given(1)
    assert torch.autograd.gradcheck(lambda x, w, bias: sum_over_classes(x, w, labels, part, bias), (x, w, bias))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.usefixtures("in_blocks")
def test_a_loss_in_blocks_is_the_loss_at_once(name, monkeypatch):
    torch.manual_seed(2)
    made = load_head(name, num_classes=C, embedding_dim=D).double()
    x, _, labels, _ = given(2)
    wanted = x, *made.parameters()
    ends = []
    for numbers in (0, 1 << 30):
        monkeypatch.setattr(head, "WHOLE_NUMBERS", numbers)
        loss = made(x, labels)
        ends.append([loss.detach(), *torch.autograd.grad(loss, wanted)])
    for a, b in zip(*ends, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.usefixtures("in_blocks")
def test_gradients_are_finite_where_embedding_and_center_are_parallel(name, sign):
    made = load_head(name, num_classes=C, embedding_dim=D)
    labels = torch.arange(B)
    x = (sign * made.weight.detach()[labels] * 2).requires_grad_()
    made(x, labels).backward()
    assert all(bool(tensor.grad.isfinite().all()) for tensor in (x, *made.parameters()))


@pytest.mark.usefixtures("in_blocks")
def test_float32_stays_float32_under_autocast_and_weights_keep_their_dtype():
    x, w, labels, bias = given(3, torch.float32)
    half = w.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = sum_over_classes(x, half, labels, part, bias)
        loss = found.sum()
        gradient = torch.autograd.grad(loss, half)[0]
    wide = half.detach().double().requires_grad_()
    expected = plain(x.detach().double(), wide, labels, bias.detach().double())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    assert gradient.dtype == torch.bfloat16
    torch.testing.assert_close(gradient.double(), torch.autograd.grad(expected.sum(), wide)[0], rtol=1e-2, atol=1e-2)


@pytest.mark.usefixtures("in_blocks")
def test_frozen_weights_get_no_gradient():
    x, w, labels, bias = given()
    sum_over_classes(x, w.detach(), labels, part, bias).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("numbers", [0, 1 << 30], ids=["in blocks", "at once"])
def test_a_captured_tensor_to_train_is_refused_whatever_the_number_of_classes(numbers, monkeypatch):
    """In blocks it would be a constant, and stay untrained without a word."""
    monkeypatch.setattr(head, "WHOLE_NUMBERS", numbers)
    x, w, labels, bias = given()
    leaf = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    for captured, shape in ((leaf, r"\[1\]"), (leaf.exp(), r"\[1\]"), (x.norm(dim=1, keepdim=True), r"\[7, 5\]")):
        with pytest.raises(ValueError, match=rf"\A`part` uses a tensor of shape {shape} that [^\n]*, or detach it\Z"):
            sum_over_classes(x, w, labels, lambda c, o, b, t=captured: part(c * t, o, b), bias).sum().backward()
    constant, made = leaf.detach(), leaf.exp()
    sum_over_classes(x, w, labels, lambda c, o, b: part(c + constant, o, b), made).sum().backward()
    assert leaf.grad.abs().sum() > 0


@pytest.mark.parametrize("classes", [1, 5, C])
@pytest.mark.usefixtures("in_blocks")
def test_a_bare_sum_of_cosines_and_a_parameter_that_it_does_not_use(classes):
    """Its gradient is one number for all classes, and with one class the very gradient that came in."""
    x, w, _, bias = given()
    w = w.detach()[:classes].requires_grad_()
    labels = torch.zeros(B, dtype=torch.int64)
    total = sum_over_classes(x, w, labels, lambda cos, own, bias: cos.sum(1), bias)
    coming = torch.arange(1.0, B + 1, dtype=torch.float64)
    found = torch.autograd.grad(total, (x, w, bias), coming)
    expected = torch.autograd.grad(F.cosine_similarity(x.unsqueeze(1), w, dim=2).sum(1), (x, w), coming)
    for a, b in zip(found, (*expected, torch.zeros_like(bias)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    assert coming.tolist() == list(range(1, B + 1))


@pytest.mark.parametrize("label", [-1, C])
@pytest.mark.usefixtures("in_blocks")
def test_a_label_that_is_no_class_is_refused(label):
    x, w, labels, bias = given()
    labels[2] = label
    with pytest.raises((IndexError, RuntimeError), match="index"):
        sum_over_classes(x, w, labels, part, bias)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.usefixtures("in_blocks")
def test_nothing_waits_for_the_device(name):
    made = load_head(name, num_classes=C, embedding_dim=D)
    x, _, labels, _ = given(4, torch.float32)
    with HostTrips() as trips:
        made(x, labels).backward()
    assert trips.found == []


@pytest.mark.parametrize("classes", [100_000, 1_000_000])
@pytest.mark.parametrize("name", LOSSES)
def test_many_classes_take_three_tenths_of_the_librarys_memory_on_cuda(name, classes, monkeypatch):
    """As for the softmax: pytorch-metric-learning's ArcFace allocates 98 MiB for each 10,000 classes."""
    plan = blocked_softmax.plan
    monkeypatch.setattr(blocked_sum, "plan", lambda device, *sizes, plain: plan("cuda", *sizes, plain=plain))
    with FakeTensorMode():
        made = load_head(name, num_classes=classes, embedding_dim=512)
        x, labels = torch.randn(128, 512, requires_grad=True), torch.randint(classes, (128,))
        with Allocations([x, labels, *made.parameters()]) as found:
            made(x, labels).backward()
    assert found.peak / 2**20 < 0.3 * 98 * classes / 10_000


def test_few_classes_are_one_block_of_torchs_own(monkeypatch):
    """Training with thousands of classes keeps its bits."""
    monkeypatch.setattr(head, "summed", None)
    made = load_head("uniface", num_classes=3000, embedding_dim=8)
    made(torch.randn(1024, 8), torch.arange(1024)).backward()
    with pytest.raises(TypeError):
        made(torch.randn(2048, 8), torch.arange(2048))
