"""The loss is one number with a correct gradient, also at the ends of the angle and of the number formats."""

import math

import torch
from torch import Tensor

from lossbench.conformance.probe import CLASSES, DIM, Subject, at_angle, loss_and_gradient, loss_of, scene, seeded
from lossbench.conformance.property import Broken, named
from lossbench.losses.head import Head


@named("one number")
def one_number(s: Subject) -> str:
    """The loss is a differentiable scalar; scores and centers have the right shapes."""
    head = s.head(dtype=torch.float32)
    centers = head.class_centers()
    if centers is not None:  # first: the embeddings below lie around them
        if centers.shape != (CLASSES, DIM):
            raise Broken(f"class_centers have shape {list(centers.shape)}, not [C, D] = [{CLASSES}, {DIM}]")
        if (centers.norm(dim=1) - 1).abs().max() > 1e-4:
            raise Broken("class_centers are not unit rows")
    x, labels = scene(head)
    x = x.float().requires_grad_()
    loss = loss_of(head, x, labels)
    if loss.ndim != 0:
        raise Broken(f"forward returns shape {list(loss.shape)}, not one number: end it with .mean()")
    if not loss.requires_grad:
        raise Broken("the loss does not depend on the embeddings: it has no gradient")
    logits = head.logits(x)
    if logits is not None and logits.shape != (len(x), CLASSES):
        raise Broken(f"logits have shape {list(logits.shape)}, not [B, C] = [{len(x)}, {CLASSES}]")
    return f"loss {loss.item():.4g}"


def _angles_of_interest(s: Subject) -> list[tuple[str, float]]:
    margins = [k.value for k in s.knobs if k.is_margin and isinstance(k.value, float) and 0 < k.value < math.pi]
    found = [("0", 0.02), ("pi/2", math.pi / 2), ("pi", math.pi - 0.02)]
    for m in margins:
        found += [("pi - margin", math.pi - m - 0.02), ("pi - margin", math.pi - m + 0.02)]
    return found


@named("gradient is the loss's derivative")
def gradient_is_derivative(s: Subject) -> str:
    """Autograd agrees with central differences, by embeddings and weights, in float64 if the head computes in it."""
    head = s.laid_out()
    labels = torch.arange(4)
    if head.class_centers() is None:
        places = [("random pairs", *scene(head, seed=i)) for i in range(3)]
    else:
        places = [(n, at_angle(head, torch.full((4,), t), labels, tilt=0.1), labels) for n, t in _angles_of_interest(s)]
        places.append(("random", *scene(head)))
    worst, where = 0.0, ""
    for name, x, y in places:
        error = _gradient_error(head, x, y, step=s.tolerance(1e-6, 1e-3))
        if error >= worst:
            worst, where = error, name
    figure = f"largest relative error {worst:.1e}, at theta = {where}"
    if worst <= s.tolerance(1e-4, 5e-2):
        return figure
    if head.stops_gradient:
        return f"{figure}; by design, held constant: {head.stops_gradient}"
    raise Broken(f"{figure}: part of the loss (its margin?) is computed under no_grad or detached, or theta has a kink")


def _gradient_error(head: Head, x: Tensor, labels: Tensor, *, step: float) -> float:
    x = x.detach().clone().requires_grad_()
    weights = [p for p in head.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(5)
    with seeded(0):
        state = {name: b.clone() for name, b in head.named_buffers()}
        gradients = torch.autograd.grad(head(x, labels), [x, *weights], allow_unused=True)
        for name, b in head.named_buffers():
            b.copy_(state[name])
    worst = 0.0
    for tensor, gradient in zip([x, *weights], gradients, strict=True):
        for _ in range(4 if tensor is x else 2):
            direction = torch.randn(tensor.shape, dtype=tensor.dtype, generator=generator)
            direction *= tensor.detach().abs().max().clamp_min(1) / max(1.0, float(direction.norm()))
            along = 0.0 if gradient is None else float((gradient * direction).sum())
            start, values = tensor.detach().clone(), []
            for sign in (1, -1):
                with torch.no_grad():
                    tensor.copy_(start + sign * step * direction)
                    values.append(float(loss_of(head, x, labels)))
            with torch.no_grad():
                tensor.copy_(start)
            difference = (values[0] - values[1]) / (2 * step)
            floor = max(1e-3, 100 * step) * max(1.0, abs(values[0]))  # below this, only rounding is measured
            worst = max(worst, abs(along - difference) / max(abs(along), abs(difference), floor))
    return worst


@named("finite at cos = 1 and -1")
def finite_at_the_ends(s: Subject) -> str:
    """Loss and gradient are finite at angles of exactly 0 and pi, where acos and bare roots are infinitely steep."""
    largest = 0.0
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
        wide = dtype if dtype in (torch.float32, torch.float64) else torch.float32
        head = s.laid_out(rotate=False, dtype=wide)
        labels = torch.arange(2).repeat_interleave(2)
        if head.class_centers() is None:
            x = torch.eye(DIM)[labels] * 8 * torch.tensor([1, 1, -1, 1]).unsqueeze(1)
        else:
            theta = torch.tensor([0.0, math.pi, 0.0, math.pi])
            x = at_angle(head, theta, labels, rotate=False)
            x = torch.where(x.abs() < 1e-9, 0, x)  # sin(pi) is not quite 0
        x = x.to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != wide):
            loss = head(x, labels)
        found = torch.autograd.grad(loss, [x, *(p for p in head.parameters() if p.requires_grad)], allow_unused=True)
        kind = str(dtype).removeprefix("torch.")
        if not loss.isfinite():
            raise Broken(
                f"the loss is {loss.item()} in {kind}: is there an acos, or a root or logarithm without a floor?"
            )
        for gradient in found:
            if gradient is not None and not gradient.isfinite().all():
                raise Broken(f"the gradient is not finite in {kind}: acos, or sqrt(1 - c^2) without a floor?")
            largest = max(largest, 0.0 if gradient is None else float(gradient.abs().max()))
    return f"largest gradient {largest:.3g} over float64, float32, bfloat16, float16"


@named("float32 under autocast")
def float32_under_autocast(s: Subject) -> str:
    """Half-precision embeddings give the same loss as those numbers in float32: logits do not collapse."""
    worst = 0.0
    for dtype in (torch.bfloat16, torch.float16):
        head = s.laid_out(dtype=torch.float32)
        x, labels = scene(head)
        with torch.autocast("cpu", dtype=dtype):
            loss = loss_of(head, x.to(dtype), labels)
        if loss.dtype not in (torch.float32, torch.float64):
            raise Broken(
                f"the loss is {loss.dtype} for {dtype} embeddings; take cosines by lossbench.cosine, "
                "which are float32, or compute it under torch.autocast(embeddings.device.type, enabled=False)"
            )
        want = loss_of(head, x.to(dtype).float(), labels).item()
        worst = max(worst, abs(loss.item() - want) / max(1e-6, abs(want)))
    if not worst <= 1e-3:
        raise Broken(
            f"relative error {worst:.1e}: logits are rounded to half precision; use lossbench.linear or cosine"
        )
    return f"relative error {worst:.1e}"


@named("own dtype kept")
def own_dtype_kept(s: Subject) -> str:
    """Half-precision embeddings leave the head's own tensors as they are."""
    head = s.head(dtype=torch.float32)
    before = {name: tensor.dtype for name, tensor in head.state_dict().items()}
    x, labels = scene(head)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        head(x.bfloat16(), labels)
    for name, tensor in head.state_dict().items():
        if tensor.dtype != before[name]:
            raise Broken(f"a bfloat16 batch turned {name} into {tensor.dtype} permanently (it was {before[name]})")
    return f"{len(before)} tensors"


@named("a batch of one")
def batch_of_one(s: Subject) -> str:
    """A batch of one image has a finite loss and gradient."""
    return _finite_on(s, 1)


@named("classes absent")
def absent_classes(s: Subject) -> str:
    """A batch of one class out of six has a finite loss and gradient."""
    return _finite_on(s, 4)


def _finite_on(s: Subject, size: int) -> str:
    head = s.head()
    x, labels = scene(head, size=size)
    loss, gradient = loss_and_gradient(head, x, torch.zeros_like(labels))
    if not (loss.isfinite() and gradient.isfinite().all()):
        raise Broken(f"the loss is {loss.item():.4g}, its largest gradient {gradient.abs().max():.4g}")
    return f"loss {loss.item():.4g}"
