"""Every loss on CUDA: right under autocast, without waiting, in a graph, and within its memory."""

import copy

import pytest
import torch
import torch.nn.functional as F

from lossbench import add_angle, heads, load_head, margin_softmax

CLASSES, DIM, BATCH = 20, 64, 32
MINING = {"triplet", "arcface_triplet"}  # they wait for the device: how many triplets there are decides on shapes
ALL, CAPTURED = sorted(heads()), sorted(set(heads()) - MINING)


def made(name: str, device: torch.device, classes: int = CLASSES):
    """A head that draws nothing at random, embeddings of a trained net's kind, and labels."""
    torch.manual_seed(0)
    head = load_head(name, num_classes=classes, embedding_dim=DIM)
    labels = torch.arange(BATCH) // 4
    embeddings = torch.randn(classes, DIM)[labels] + torch.randn(BATCH, DIM)
    head.train(not name.startswith("elastic"))
    return head.to(device), embeddings.to(device).requires_grad_(), labels.to(device)


def stepped(head, embeddings, labels, autocast: bool = False):
    """The loss and all gradients of a step."""
    wanted = [embeddings, *(p for p in head.parameters() if p.requires_grad)]
    with torch.autocast(embeddings.device.type, dtype=torch.bfloat16, enabled=autocast):
        loss = head(embeddings, labels)
    return [loss.detach(), *torch.autograd.grad(loss, wanted, allow_unused=True)]


@pytest.mark.parametrize("name", ALL)
def test_float32_under_autocast_is_near_float64_on_the_cpu(cuda, name):
    head, embeddings, labels = made(name, cuda)
    reference = copy.deepcopy(head).cpu().double()
    expected = stepped(reference, embeddings.detach().cpu().double().requires_grad_(), labels.cpu())
    found = stepped(head, embeddings, labels, autocast=True)
    for a, b in zip(found, expected, strict=True):
        if b is not None:
            assert a.dtype == torch.float32
            torch.testing.assert_close(a.cpu().double(), b, rtol=1e-3, atol=1e-4 * max(1.0, float(b.abs().max())))


@pytest.mark.parametrize("name", CAPTURED)
def test_a_step_does_not_wait_for_the_device(cuda, name):
    head, embeddings, labels = made(name, cuda)
    stepped(head, embeddings, labels)  # handles and workspaces
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        head.progress(0.5)
        stepped(head, embeddings, labels)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("name", CAPTURED)
def test_a_graph_holds_a_step_and_gives_the_same_bits(cuda, name):
    head, embeddings, labels = made(name, cuda)
    eager = copy.deepcopy(head)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            stepped(head, embeddings, labels)
    torch.cuda.current_stream().wait_stream(side)
    head.load_state_dict(eager.state_dict())
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = stepped(head, embeddings, labels)
    for seed in (1, 2):
        torch.manual_seed(seed)
        with torch.no_grad():
            embeddings.copy_(torch.randn_like(embeddings))
        graph.replay()
        for a, b in zip(captured, stepped(eager, embeddings, labels), strict=True):
            assert (a is None and b is None) or torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(head.buffers(), eager.buffers(), strict=True))


@pytest.mark.parametrize("centers", [(), (3,)], ids=["one center", "three centers"])
@pytest.mark.parametrize("others", [None, lambda c: torch.where(c > 0.2, c * (0.3 + c), c)], ids=["own", "all"])
def test_many_classes_in_several_rounds_are_near_float64(cuda, centers, others):
    torch.manual_seed(0)
    classes = 100_000
    x = torch.randn(128, DIM, device=cuda, requires_grad=True)
    w = torch.randn(classes, *centers, DIM, device=cuda, requires_grad=True)
    labels = torch.randint(classes, (128,), device=cuda)
    found = margin_softmax(x, w, labels, lambda own: add_angle(own, 0.5), 64.0, others)
    wide = [t.detach().double().requires_grad_() for t in (x, w)]
    cos = F.normalize(wide[0], dim=1) @ F.normalize(wide[1], dim=-1).flatten(0, -2).T
    cos = cos.view(128, classes, -1).amax(2)
    own = F.one_hot(labels, classes).bool()
    z = torch.where(own, add_angle(cos, 0.5), cos if others is None else others(cos))
    expected = F.cross_entropy(64.0 * z, labels)
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=0)
    gradients = zip(torch.autograd.grad(found, (x, w)), torch.autograd.grad(expected, wide), strict=True)
    for a, b in gradients:
        assert float((a.double() - b).norm() / b.norm()) < 1e-4


@pytest.mark.parametrize(
    "name", ["arcface", "sphereface", "circle", "curricularface", "mv_softmax", "uniface", "proxy_anchor"]
)
def test_many_classes_take_three_tenths_of_the_librarys_memory(cuda, name):
    from pytorch_metric_learning.losses import ArcFaceLoss

    theirs = most_of(ArcFaceLoss(100_000, 512).to(cuda), cuda)
    assert most_of(load_head(name, num_classes=100_000, embedding_dim=512).to(cuda), cuda) < 0.3 * theirs


def test_many_classes_of_three_centers_take_three_tenths_of_the_librarys_memory(cuda):
    from pytorch_metric_learning.losses import SubCenterArcFaceLoss

    theirs = most_of(SubCenterArcFaceLoss(num_classes=100_000, embedding_size=512, sub_centers=3).to(cuda), cuda)
    assert most_of(load_head("subcenter_arcface", num_classes=100_000, embedding_dim=512).to(cuda), cuda) < 0.3 * theirs


def most_of(head, cuda) -> int:
    """The most bytes that a step allocates, after one of few classes that brings the libraries' workspaces."""
    x, labels = torch.randn(128, 512, device=cuda, requires_grad=True), torch.randint(100_000, (128,), device=cuda)
    (x @ x.T).sum().backward()
    x.grad = None
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    head(x, labels).backward()
    return torch.cuda.max_memory_allocated() - before
