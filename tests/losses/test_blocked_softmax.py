"""margin_softmax in blocks against the plain form that holds the whole [B, C]."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from tracing import Allocations, HostTrips

from lossbench import load_head, margin_softmax
from lossbench.losses import blocked_softmax as blocks
from lossbench.losses import head

B, C, D = 7, 23, 5


def plain(x, w, labels, push, scale, others=lambda c: c):
    cos = F.normalize(x, dim=1) @ F.normalize(w, dim=1).T
    own = F.one_hot(labels, len(w)).bool()
    z = torch.where(own, push(cos.masked_select(own)).unsqueeze(1), others(cos))
    return F.cross_entropy(z * (scale.unsqueeze(1) if isinstance(scale, torch.Tensor) else scale), labels)


@pytest.fixture(params=[(C, True), (4, True), (4, False)], ids=["one block", "six blocks", "six blocks, none kept"])
def small_blocks(request, monkeypatch):
    monkeypatch.setattr(blocks, "plan", lambda *sizes, plain: blocks.Plan(*request.param))


@pytest.fixture
def as_on_cuda(monkeypatch):
    plan = blocks.plan
    monkeypatch.setattr(blocks, "plan", lambda device, *sizes, plain: plan("cuda", *sizes, plain=plain))


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


@pytest.mark.parametrize("others", [None, squared], ids=["own class", "all classes"])
@pytest.mark.usefixtures("small_blocks")
def test_the_nearest_of_several_centers_counts(monkeypatch, others):
    monkeypatch.setattr(head, "KEEP_NUMBERS", 0)
    x, _, s, m, labels = given(5)
    w = torch.randn(C, 3, D, dtype=torch.float64, requires_grad=True)

    def whole(x, w, s, m):
        cos = (F.normalize(x, dim=1) @ F.normalize(w, dim=2).flatten(0, 1).T).view(B, C, 3).amax(2)
        own = F.one_hot(labels, C).bool()
        z = torch.where(own, (cos - m.unsqueeze(1)), cos if others is None else others(cos))
        return F.cross_entropy(z * s.unsqueeze(1), labels)

    new, old = margin_softmax(x, w, labels, lambda own: own - m, s, others), whole(x, w, s, m)
    torch.testing.assert_close(new, old, rtol=1e-12, atol=0)
    for a, b in zip(torch.autograd.grad(new, (x, w, s, m)), torch.autograd.grad(old, (x, w, s, m)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kept", [0, 1 << 30], ids=["in blocks", "at once"])
def test_of_centers_that_tie_one_gets_the_gradient(monkeypatch, kept):
    """The same one in blocks as at once."""
    monkeypatch.setattr(head, "KEEP_NUMBERS", kept)
    x, _, s, m, labels = given(5)
    axes = torch.eye(D, dtype=torch.float64)[torch.arange(C) % D]  # products with these are exact
    w = axes.unsqueeze(1).repeat(1, 3, 1).requires_grad_()
    margin_softmax(x, w, labels, lambda own: own - m, s).backward()
    assert (w.grad.norm(dim=2) > 0).sum(1).tolist() == [1] * C
    assert bool((w.grad[:, 0].norm(dim=1) > 0).all())


@pytest.mark.usefixtures("small_blocks")
def test_a_second_backward_pass_gives_the_same_bits():
    """The first uses up the cosines that were kept."""
    x, w, s, m, labels = given(6)
    loss = margin_softmax(x, w, labels, lambda own: own - m, s)
    first = torch.autograd.grad(loss, (x, w, s), retain_graph=True)
    for a, b in zip(first, torch.autograd.grad(loss, (x, w, s)), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("device", "batch", "weight", "plain", "classes", "keep"),
    [
        ("cpu", 128, (10**6, 512), True, 8192, False),
        ("cpu", 2**20, (5000, 8), True, 1024, False),
        ("cpu", 64, (200, 128), False, 2**14, True),
        ("cuda", 128, (10**6, 512), True, 400_000, True),
        ("cuda", 129, (10**6, 512), True, 396_899, False),  # more than a quarter of the weights
        ("cuda", 128, (10**6, 512), False, 166_666, False),
        ("cuda", 128, (2**15, 512), True, 2**15, True),
        ("cuda", 128, (10**5, 3, 512), True, 40_000, True),
        ("cuda", 0, (10, 4), True, 2**22, True),
    ],
)
def test_the_plan_of_blocks(device, batch, weight, plain, classes, keep):
    assert blocks.plan(device, batch, weight, plain=plain) == (classes, keep)


@pytest.mark.usefixtures("as_on_cuda")
@pytest.mark.parametrize("classes", [100_000, 1_000_000])
@pytest.mark.parametrize("spec", ["arcface", "sphereface", "circle", "curricularface", "mv_softmax"])
def test_many_classes_take_three_tenths_of_the_librarys_memory_on_cuda(spec, classes):
    """Its ArcFace allocates 98 MiB for 10,000 classes (tests/perf/many_classes.py), and as much for each further."""
    assert peak(lambda: load_head(spec, num_classes=classes, embedding_dim=512), classes) < 0.3 * 98 * classes / 10_000


@pytest.mark.usefixtures("as_on_cuda")
def test_many_classes_of_several_centers_take_three_tenths_of_the_librarys_memory():
    """Its SubCenterArcFace with 3 centers allocates 293 MiB for 10,000 classes."""
    build = lambda: load_head("subcenter_arcface", num_classes=10**5, embedding_dim=512)  # noqa: E731
    assert peak(build, 10**5) < 0.3 * 2934


def peak(build, classes):
    """Return the most MiB that a step allocates beside weights and embeddings, of tensors that are not computed."""
    with FakeTensorMode():
        made = build()
        x, labels = torch.randn(128, 512, requires_grad=True), torch.randint(classes, (128,))
        with Allocations([x, labels, *made.parameters(), *made.buffers()]) as found:
            made(x, labels).backward()
    return found.peak / 2**20


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


def test_the_blocks_cover_every_class_once():
    sizes = [len(range(5000)[block]) for block in blocks.blocks_of(blocks.Plan(1024, False), torch.empty(5000, 1))]
    assert sizes == [1024, 1024, 1024, 1024, 904]


@pytest.mark.usefixtures("small_blocks")
def test_nothing_waits_for_the_device():
    x, w, s, m, labels = given(7)
    with HostTrips() as trips:
        margin_softmax(x, w, labels, lambda own: own - m, s, squared).backward()
    assert trips.found == []
