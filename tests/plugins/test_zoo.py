"""Every shipped loss against a plain float64 loop written from the paper's formula (see ../shared/reference.md)."""

import math
from collections.abc import Callable

import pytest
import torch

from lossbench import heads, load_head

B, C, D = 6, 5, 8
Row = list[float]


def softmax_loss(rows: list[Row], labels: list[int]) -> float:
    total = 0.0
    for z, y in zip(rows, labels, strict=True):
        top = max(z)
        total += top + math.log(sum(math.exp(v - top) for v in z)) - z[y]
    return total / len(rows)


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


class Case:
    """Embeddings, weights and labels as lists, and what papers call the cosines, angles and norms."""

    def __init__(self, x: torch.Tensor, w: torch.Tensor, labels: torch.Tensor):
        self.x, self.w, self.y = x.tolist(), w.tolist(), labels.tolist()
        self.norms = [math.sqrt(sum(v * v for v in row)) for row in self.x]
        self.cos = [[self.cosine(a, b) for b in self.w] for a in self.x]

    @staticmethod
    def cosine(a: Row, b: Row) -> float:
        dot = sum(p * q for p, q in zip(a, b, strict=True))
        return dot / math.sqrt(sum(p * p for p in a)) / math.sqrt(sum(q * q for q in b))

    def margin(self, own: Callable[[float], float], s: float) -> float:
        rows = [[s * (own(c) if j == y else c) for j, c in enumerate(r)] for r, y in zip(self.cos, self.y, strict=True)]
        return softmax_loss(rows, self.y)


def arc(c: float, m: float) -> float:
    theta = math.acos(c)
    return math.cos(theta + m) if theta + m < math.pi else c - m * math.sin(m)


def ce(k: Case, head) -> float:
    bias = head.bias.tolist()
    rows = [[sum(a * b for a, b in zip(x, w, strict=True)) + bias[j] for j, w in enumerate(k.w)] for x in k.x]
    return softmax_loss(rows, k.y)


def center(k: Case, head) -> float:
    away = [
        sum((a - b) ** 2 for a, b in zip(x, head.centers[y].tolist(), strict=True))
        for x, y in zip(k.x, k.y, strict=True)
    ]
    return ce(k, head) + 0.003 / 2 * sum(away) / len(away)


def sphereface(k: Case, head) -> float:  # untold of progress: the whole margin
    lam = 5.0
    rows = []
    for r, y, norm in zip(k.cos, k.y, k.norms, strict=True):
        theta = math.acos(r[y])
        i = math.floor(4 * theta / math.pi)
        psi = (-1) ** i * math.cos(4 * theta) - 2 * i
        rows.append([norm * (c + (psi - c) / (1 + lam) if j == y else c) for j, c in enumerate(r)])
    return softmax_loss(rows, k.y)


def sphereface2(k: Case, head) -> float:
    r, m, t, lam, b = 40.0, 0.4, 3.0, 0.7, head.bias.item()
    total = 0.0
    for row, y in zip(k.cos, k.y, strict=True):
        for j, c in enumerate(row):
            g = 2 * ((c + 1) / 2) ** t - 1
            total += lam / r * softplus(-(r * g - r * m + b)) if j == y else (1 - lam) / r * softplus(r * g + r * m + b)
    return total / B


def combined(k: Case, head) -> float:
    def own(c: float) -> float:
        phi = math.acos(c) + 0.3
        return (math.cos(phi) if phi < math.pi else -math.cos(phi) - 2) - 0.2

    return k.margin(own, 64.0)


def adacos(k: Case, head) -> float:  # first training step
    s = math.sqrt(2) * math.log(C - 1)
    pairs = list(zip(k.cos, k.y, strict=True))
    b_avg = sum(math.exp(s * c) for r, y in pairs for j, c in enumerate(r) if j != y) / B
    theta = sorted(math.acos(r[y]) for r, y in pairs)[(B - 1) // 2]
    return k.margin(lambda c: c, math.log(b_avg) / math.cos(min(math.pi / 4, theta)))


def adaface(k: Case, head) -> float:
    mean = sum(k.norms) / B
    sigma = math.sqrt(sum((n - mean) ** 2 for n in k.norms) / (B - 1))
    rows = []
    for r, y, norm in zip(k.cos, k.y, k.norms, strict=True):
        z = min(1.0, max(-1.0, 0.333 * (norm - mean) / (sigma + 1e-3)))
        theta = min(math.pi, max(0.0, math.acos(r[y]) - 0.4 * z))
        rows.append([64 * (math.cos(theta) - 0.4 * (1 + z) if j == y else c) for j, c in enumerate(r)])
    return softmax_loss(rows, k.y)


def magface(k: Case, head) -> float:
    a = [min(110.0, max(10.0, n)) for n in k.norms]
    rows = []
    for r, y, n in zip(k.cos, k.y, a, strict=True):
        m = 0.45 + (0.8 - 0.45) / (110 - 10) * (n - 10)
        rows.append([64 * (arc(c, m) if j == y else c) for j, c in enumerate(r)])
    return softmax_loss(rows, k.y) + 35 * sum(n / 110**2 + 1 / n for n in a) / B


def curricularface(k: Case, head) -> float:  # t moves before it is used
    t = 0.99 * 0.0 + 0.01 * sum(r[y] for r, y in zip(k.cos, k.y, strict=True)) / B
    rows = []
    for r, y in zip(k.cos, k.y, strict=True):
        hard = math.cos(math.acos(r[y]) + 0.5)
        rows.append([64 * (arc(c, 0.5) if j == y else c * (t + c) if c > hard else c) for j, c in enumerate(r)])
    return softmax_loss(rows, k.y)


def mv_softmax(k: Case, head) -> float:
    rows = []
    for r, y in zip(k.cos, k.y, strict=True):
        own = r[y] - 0.35
        rows.append([32 * (own if j == y else 1.12 * c + 1.12 - 1 if c > own else c) for j, c in enumerate(r)])
    return softmax_loss(rows, k.y)


def subcenter_arcface(k: Case, head) -> float:
    best = [[max(k.cosine(x, center) for center in centers) for centers in head.weight.tolist()] for x in k.x]
    return softmax_loss(
        [[64 * (arc(c, 0.5) if j == y else c) for j, c in enumerate(r)] for r, y in zip(best, k.y, strict=True)], k.y
    )


def circle(k: Case, head) -> float:
    m = 0.25
    rows = []
    for r, y in zip(k.cos, k.y, strict=True):
        own = max(0.0, 1 + m - r[y]) * (r[y] - (1 - m))
        rows.append([256 * (own if j == y else max(0.0, c + m) * (c - m)) for j, c in enumerate(r)])
    return softmax_loss(rows, k.y)


def uniface(k: Case, head) -> float:
    b = math.log(10 * C)
    total = 0.0
    for r, y in zip(k.cos, k.y, strict=True):
        total += math.log1p(math.exp(b - 64 * (r[y] - 0.4)))
        total += sum(softplus(64 * c - b) for j, c in enumerate(r) if j != y)
    return total / B


def p2sgrad(k: Case, head) -> float:
    return sum((c - (j == y)) ** 2 for r, y in zip(k.cos, k.y, strict=True) for j, c in enumerate(r)) / B


def proxy_anchor(k: Case, head) -> float:
    pull, push = [], []
    for j in range(C):
        same = [math.exp(-32 * (r[j] - 0.1)) for r, y in zip(k.cos, k.y, strict=True) if y == j]
        rest = [math.exp(32 * (r[j] + 0.1)) for r, y in zip(k.cos, k.y, strict=True) if y != j]
        if same:
            pull.append(math.log(1 + sum(same)))
        push.append(math.log(1 + sum(rest)))
    return sum(pull) / len(pull) + sum(push) / C


def triplet(k: Case, head, alpha: float = 0.2) -> float:
    unit = [[v / n for v in x] for x, n in zip(k.x, k.norms, strict=True)]
    d = [[sum((a - b) ** 2 for a, b in zip(p, q, strict=True)) for q in unit] for p in unit]
    losses = [
        d[a][p] - d[a][n] + alpha
        for a in range(B)
        for p in range(B)
        for n in range(B)
        if a != p and k.y[a] == k.y[p] and k.y[a] != k.y[n] and d[a][p] < d[a][n] < d[a][p] + alpha
    ]
    assert losses, "the case has no semi-hard triplet: it would test nothing"
    return sum(losses) / len(losses)


LOOPS: dict[str, Callable[[Case, object], float]] = {
    "ce": ce,
    "center": center,
    "normface": lambda k, head: k.margin(lambda c: c, 30.0),
    "arcface": lambda k, head: k.margin(lambda c: arc(c, 0.5), 64.0),
    "cosface": lambda k, head: k.margin(lambda c: c - 0.35, 64.0),
    "sphereface": sphereface,
    "sphereface_r": lambda k, head: k.margin(lambda c: math.cos(min(1.5 * math.acos(c), math.pi)), 30.0),
    "sphereface2": sphereface2,
    "combined_margin": combined,
    "adacos": adacos,
    "adaface": adaface,
    "magface": magface,
    "curricularface": curricularface,
    "mv_softmax": mv_softmax,
    "subcenter_arcface": subcenter_arcface,
    "circle": circle,
    "elasticface": lambda k, head: k.margin(lambda c: arc(c, 0.5), 64.0),  # in evaluation: the mean margin
    "elasticface_cos": lambda k, head: k.margin(lambda c: c - 0.35, 64.0),
    "uniface": uniface,
    "p2sgrad": p2sgrad,
    "proxy_anchor": proxy_anchor,
    "triplet": triplet,
    "arcface_triplet": lambda k, head: k.margin(lambda c: arc(c, 0.5), 64.0) + triplet(k, head),
}


def semi_hard(labels: torch.Tensor) -> torch.Tensor:
    """Draw until a triplet of the batch is semi-hard."""
    while True:
        x = torch.randn(B, D, dtype=torch.float64)
        d = torch.cdist(*[torch.nn.functional.normalize(x, dim=1)] * 2).square()
        same = labels == labels.unsqueeze(1)
        gap = d.unsqueeze(1) - d.unsqueeze(2)  # [a, p, n]: d_an - d_ap
        if (same.unsqueeze(2) & ~same.unsqueeze(1) & (d.unsqueeze(2) > 0) & (gap > 0) & (gap < 0.2)).any():
            return x


def case(name: str, seed: int):
    """A head in float64, and embeddings from parallel to nearly antiparallel to their centers."""
    torch.manual_seed(seed)
    head = load_head(name, num_classes=C, embedding_dim=D).double()
    labels = torch.tensor([0, 1, 2, 2, 0, 1])  # classes 3 and 4 are absent
    centers = head.class_centers()
    if centers is None:
        x = semi_hard(labels)
        w = torch.randn(C, D, dtype=torch.float64)
    else:
        away = torch.nn.functional.normalize(torch.randn(B, D, dtype=torch.float64), dim=1)
        pull = torch.tensor([0.3, 2.0, -2.0, 0.9, -0.6, 5.0], dtype=torch.float64).unsqueeze(1)
        x = (away + pull * centers[labels]) * torch.tensor([[0.5], [3], [14], [40], [130], [20]], dtype=torch.float64)
        if name == "arcface_triplet":  # it needs semi-hard triplets: two loose clusters
            x = semi_hard(labels)
        w = getattr(head, "weight", centers).detach()
        w = centers if w.ndim != 2 else w
    return head, x, w, labels


@pytest.mark.parametrize("name", sorted(heads()))
def test_value_equals_the_papers_formula(name):
    for seed in range(3):
        head, x, w, labels = case(name, seed)
        head.train(not name.startswith("elasticface"))
        want = LOOPS[name](Case(x, w, labels), head)
        assert head(x, labels).item() == pytest.approx(want, rel=1e-6, abs=1e-9), seed


def test_every_shipped_loss_has_a_loop():
    assert set(LOOPS) == set(heads())


@pytest.mark.parametrize(("classes", "balance"), [(1000, 0.7), (2, 0.7), (2, 0.5), (4, 0.9997)])
def test_sphereface2_bias_starts_in_balance(classes, balance):
    """At cosines of 0, lambda times the pull of the positive is (1 - lambda) times the push of all the others."""
    b = load_head("sphereface2", num_classes=classes, embedding_dim=D, balance=balance).bias.item()
    g = 2 * 0.5**3 - 1
    pull = balance / (1 + math.exp(40 * (g - 0.4) + b))
    push = (1 - balance) * (classes - 1) / (1 + math.exp(-40 * (g + 0.4) - b))
    assert pull == pytest.approx(push, rel=1e-3)


@pytest.mark.parametrize("name", ["elasticface", "elasticface_cos"])
def test_elasticface_draws_a_margin_per_image_around_its_mean(name):
    """With x on its center and others at right angles the loss tells the margin that was drawn."""
    head = load_head(f"{name}:scale=1", num_classes=2, embedding_dim=2).double()
    head.weight.data = torch.eye(2, dtype=torch.float64)
    torch.manual_seed(0)
    own = torch.zeros(4000, dtype=torch.float64)
    pushed = head.push(own)
    drawn = -pushed.asin() if name == "elasticface" else -pushed
    mean = 0.5 if name == "elasticface" else 0.35
    assert drawn.mean().item() == pytest.approx(mean, abs=0.004)
    assert drawn.std().item() == pytest.approx(0.05, rel=0.05)


def test_adacos_moves_its_scale_in_training_alone():
    head, x, _, labels = case("adacos", 0)
    before = head.scale.clone()
    head.eval()(x, labels)
    assert torch.equal(head.scale, before)
    head.train()(x, labels)
    assert not torch.equal(head.scale, before)


def test_combined_margin_uses_all_three_margins():
    """The bug of a public implementation: (1, 0.3, 0.2) trained CosFace 0.2."""
    _, x, _, labels = case("combined_margin", 0)
    losses = set()
    for spec in ("", ":m1=1.2", ":m2=0.2", ":m3=0.1"):
        torch.manual_seed(0)
        losses.add(load_head("combined_margin" + spec, num_classes=C, embedding_dim=D)(x, labels).item())
    assert len(losses) == 4


@pytest.mark.parametrize("path", sorted(p.path for p in heads().values()), ids=lambda p: p.stem)
def test_a_plugin_is_one_screen_and_cites_its_source(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 40
    first = text.splitlines()[0]
    assert path.stem == "ce" or "arXiv:" in first or "ECCV" in first or "ICCV" in first
