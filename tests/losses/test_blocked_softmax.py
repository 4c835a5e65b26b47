"""margin_softmax in blocks against the plain form that holds the whole [B, C]."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from lossbench import margin_softmax
from lossbench.losses import blocked_softmax as blocks

B, C, D = 7, 23, 5


def plain(x, w, labels, push, scale, others=lambda c: c):
    cos = F.normalize(x, dim=1) @ F.normalize(w, dim=1).T
    own = F.one_hot(labels, len(w)).bool()
    z = torch.where(own, push(cos.masked_select(own)).unsqueeze(1), others(cos))
    return F.cross_entropy(z * (scale.unsqueeze(1) if isinstance(scale, torch.Tensor) else scale), labels)


@pytest.fixture(params=[(C, 2**24), (4, 2**24), (4, 0)], ids=["one block", "six blocks", "six blocks, none kept"])
def small_blocks(request, monkeypatch):
    size, keep = request.param
    monkeypatch.setattr(blocks, "KEEP_NUMBERS", keep)

    def cut(unit, weight):
        return (slice(i, i + size) for i in range(0, len(weight), size))

    monkeypatch.setattr(blocks, "_blocks", cut)


def given(seed=0):
    torch.manual_seed(seed)
    x = torch.randn(B, D, dtype=torch.float64, requires_grad=True)
    w = torch.randn(C, D, dtype=torch.float64, requires_grad=True)
    s = (torch.rand(B, dtype=torch.float64) * 20 + 1).requires_grad_()
    m = torch.rand(B, dtype=torch.float64).requires_grad_()
    return x, w, s, m, torch.randint(C, (B,))


def squared(c):  # CurricularFace's kind: hard classes alone
    return torch.where(c > 0.2, c * (0.3 + c), c)


@pytest.mark.parametrize("others", [None, squared], ids=["own class", "all classes"])
@pytest.mark.usefixtures("small_blocks")
def test_value_and_every_gradient_equal_the_plain_form(others):
    x, w, s, m, labels = given()
    new = margin_softmax(x, w, labels, lambda own: own - m, s, others)
    old = plain(x, w, labels, lambda own: own - m, s, others or (lambda c: c))
    torch.testing.assert_close(new, old, rtol=1e-12, atol=0)
    for a, b in zip(torch.autograd.grad(new, (x, w, s, m)), torch.autograd.grad(old, (x, w, s, m)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.usefixtures("small_blocks")
def test_gradcheck():
    x, w, s, m, labels = given(1)
    assert torch.autograd.gradcheck(
        lambda x, w, s, m: margin_softmax(x, w, labels, lambda own: own.pow(3) - m, s, squared), (x, w, s, m)
    )


def test_the_blocks_cover_every_class_once():
    sizes = [len(torch.arange(10**6)[b]) for b in blocks._blocks(torch.empty(128, 1), torch.empty(10**6, 1))]
    assert sum(sizes) == 10**6
    assert len(sizes) > 100


def test_a_confident_loss_keeps_its_digits():
    """exp(-126) is no 0: float32 cross-entropy of the same logits would round it away."""
    w = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    loss = margin_softmax(torch.tensor([[3.0, 0.0]]), w, torch.tensor([0]), lambda c: c, 30.0)
    assert loss.item() == pytest.approx(8.7565e-27, rel=1e-4)


def test_one_class_costs_nothing_and_has_finite_gradients():
    x, w = torch.randn(3, 4, requires_grad=True), torch.randn(1, 4, requires_grad=True)
    loss = margin_softmax(x, w, torch.zeros(3, dtype=torch.int64), lambda c: c, 30.0)
    loss.backward()
    assert loss.item() == 0
    assert x.grad.abs().max() == 0
    assert w.grad.abs().max() == 0


def test_half_precision_weights_keep_their_dtype_and_are_computed_in_float32():
    x, w, labels = torch.randn(4, 8), torch.randn(6, 8), torch.arange(4)
    half = w.bfloat16().requires_grad_()
    loss = margin_softmax(x.bfloat16(), half, labels, lambda c: c - 0.3, 64.0)
    loss.backward()
    want = plain(x.bfloat16().float(), half.detach().float(), labels, lambda c: c - 0.3, 64.0)
    torch.testing.assert_close(loss, want)
    assert half.grad.dtype == torch.bfloat16


def test_frozen_weights_get_no_gradient():
    x, w = torch.randn(4, 8, requires_grad=True), torch.randn(6, 8)
    margin_softmax(x, w, torch.arange(4), lambda c: c, 64.0).backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("label", [-1, C])
def test_a_label_that_is_no_class_is_refused(label):
    x, w, _, _, labels = given()
    labels[2] = label
    with pytest.raises(IndexError):
        margin_softmax(x, w, labels, lambda c: c, 64.0)


@pytest.mark.parametrize("others", [None, squared], ids=["own class", "all classes"])
def test_what_torch_compile_sees_is_the_same_loss(monkeypatch, others):
    x, w, s, m, labels = given(2)
    blocked = margin_softmax(x, w, labels, lambda own: own - m, s, others)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    whole = margin_softmax(x, w, labels, lambda own: own - m, s, others)
    torch.testing.assert_close(whole, blocked, rtol=1e-12, atol=0)
    for a, b in zip(torch.autograd.grad(whole, (x, w, s, m)), torch.autograd.grad(blocked, (x, w, s, m)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_importing_the_heads_does_not_load_the_compiler():
    """torch._dynamo doubles the time that torch takes to import."""
    code = "import sys, lossbench.losses.head; assert 'torch._dynamo' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.usefixtures("small_blocks")
def test_float32_stays_float32_under_autocast(monkeypatch, compiled):
    """Autocast leaves float64 alone, so that only float32 shows whether products are made in bfloat16."""
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiled)
    given_wide = [v.detach().requires_grad_() for v in given(3)[:4]]
    labels = given(3)[4]
    narrow = [v.detach().float().requires_grad_() for v in given_wide]

    def loss_of(x, w, s, m):
        return margin_softmax(x, w, labels, lambda own: own - m, s, squared)

    expected = loss_of(*given_wide)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = loss_of(*narrow)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=not compiled):  # what is compiled has no backward of ours
        gradients = torch.autograd.grad(found, narrow)
    for a, b in zip(gradients, torch.autograd.grad(expected, given_wide), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-5)


def test_no_block_holds_more_scores_than_it_may_but_for_a_thousand_classes():
    for batch, classes, first in [(128, 10**6, 8192), (2**20, 5000, 1024), (1, 3 * 2**20, 2**20), (0, 10, 10)]:
        sizes = [len(range(classes)[b]) for b in blocks._blocks(torch.empty(batch, 1), torch.empty(classes, 1))]
        assert sizes[0] == first
        assert sum(sizes) == classes


def test_what_is_kept_for_the_backward_pass_is_bounded(monkeypatch):
    x, w, s, _, labels = given(4)
    for most, kept in [(B * C, 1), (B * C - 1, 0)]:
        monkeypatch.setattr(blocks, "KEEP_NUMBERS", most)
        own, _ = blocks.own_and_rest(F.normalize(x, dim=1), w, labels, s)
        assert len(own.grad_fn.kept) == kept
