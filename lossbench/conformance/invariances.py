"""What must change nothing: orders, norms, evaluation, saving and loading; and labels out of range."""

import torch
from torch import Tensor

from lossbench.conformance.probe import CLASSES, DIM, Subject, loss_and_gradient, loss_of, scene
from lossbench.conformance.property import Broken, Skipped, named
from lossbench.losses.head import Head


def draws(head: Head, x: Tensor, labels: Tensor) -> bool:
    """Tell whether the loss depends on random numbers."""
    return bool(loss_of(head, x, labels, seed=0) != loss_of(head, x, labels, seed=1))


@named("order of samples")
def sample_order(s: Subject) -> str:
    """Permuting the batch changes nothing; a head that draws random numbers is measured in evaluation mode."""
    head = s.laid_out()
    x, labels = scene(head)
    head.train(head.training and not draws(head, x, labels))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    return _same(
        loss_of(head, x, labels), loss_of(head, x[order], labels[order]), "permuting the batch", s.tolerance(1e-8)
    )


@named("order of classes")
def class_order(s: Subject) -> str:
    """Permuting the classes, weights and labels together, changes nothing."""
    head, other = s.laid_out(), s.laid_out()
    x, labels = scene(head)
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(9))  # no class keeps its number
    with torch.no_grad():
        for tensor in (*other.parameters(), *other.buffers()):
            if tensor.ndim and tensor.shape[0] == CLASSES:
                tensor.copy_(tensor[order])
            elif tensor.ndim == 2 and tensor.shape == (DIM, CLASSES):
                tensor.copy_(tensor[:, order])
    return _same(
        loss_of(head, x, labels), loss_of(other, x, order.argsort()[labels]), "renaming the classes", s.tolerance(1e-8)
    )


def _same(a: Tensor, b: Tensor, what: str, tolerance: float = 1e-8) -> str:
    difference = ((a - b).abs() / a.abs().clamp_min(1e-6)).item()
    if not difference <= tolerance:
        raise Broken(f"{what} changes the loss by {difference:.1e} (relative)")
    return f"relative difference {difference:.1e}"


@named("norm of the embeddings")
def embedding_norm(s: Subject) -> str:
    """Without `uses_norm`, tripling every embedding's norm does not change the loss."""
    head = s.laid_out()
    x, labels = scene(head)
    a, b = loss_of(head, x, labels), loss_of(head, 3 * x, labels)
    if head.uses_norm:
        return f"declared: tripled, the loss goes from {a.item():.4g} to {b.item():.4g}"
    try:
        return _same(a, b, "tripling the norm", s.tolerance(1e-6))
    except Broken as broken:
        raise Broken(f"{broken}; if that is intended, declare uses_norm = True") from None


@named("evaluation changes nothing")
def evaluation_is_pure(s: Subject) -> str:
    """Forward, logits and centers in evaluation mode leave buffers, weights and attributes unchanged."""
    head = s.head()
    x, labels = scene(head)
    head(x, labels)
    head.eval()
    before, attributes = {n: t.clone() for n, t in head.state_dict().items()}, _numbers(head)
    first = head(x, labels).detach()
    for seed in (1, 2):
        other, y = scene(head, seed=seed)
        head(other, y)
        head.logits(other)
        head.class_centers()
    changed = [n for n, t in head.state_dict().items() if not torch.equal(t, before[n])]
    changed += [n for n, value in _numbers(head).items() if attributes.get(n) != value]
    if changed:
        raise Broken(f"evaluation changes {', '.join(changed)}: guard it with `if self.training:`")
    if not torch.equal(head(x, labels).detach(), first):
        raise Broken("the same batch has a different loss after other batches were evaluated")
    return f"{len(before)} tensors, {len(attributes)} numbers"


def _numbers(head: Head) -> dict[str, float]:
    found = {}
    for prefix, module in ((p, m) for p, m in head.named_modules() if isinstance(m, Head)):
        for name, value in vars(module).items():
            if isinstance(value, int | float) and name != "training":
                found[f"{prefix}.{name}".lstrip(".")] = float(value)
    return found


@named("state_dict round trip")
def state_round_trip(s: Subject) -> str:
    """A head saved in mid-training and loaded into a fresh one gives the same loss as the first."""
    head, fresh = s.head(), s.head(seed=9)
    for seed in range(3):
        x, labels = scene(head, seed=seed)
        loss_and_gradient(head, x, labels)
        head(x, labels)
    fresh.load_state_dict(head.state_dict())
    x, labels = scene(head, seed=4)
    figure = _same(loss_of(head, x, labels), loss_of(fresh, x, labels), "saving and loading", 0)
    _same(loss_of(head.eval(), x, labels), loss_of(fresh.eval(), x, labels), "saving and loading", 0)
    return figure


@named("labels out of range")
def labels_are_checked(s: Subject) -> str:
    """A label out of range is refused, not counted as another class or ignored."""
    head = s.head()
    if head.logits(scene(head)[0]) is None:
        raise Skipped("no classes: labels only tell which images show the same person")
    for wrong in (-1, CLASSES):
        x, labels = scene(head)
        labels[3] = wrong
        try:
            loss_of(head, x, labels)
        except (IndexError, ValueError, RuntimeError):
            continue
        raise Broken(f"label {wrong} of {CLASSES} classes is accepted without an error")
    return f"-1 and {CLASSES} raise"
