"""What every head must satisfy: a property a line, each with the figure that was measured.

`lossbench check` prints the lines; the test suite runs them over all shipped losses, and over planted bugs.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lossbench.head import Head
from lossbench.probe import (
    CLASSES,
    DIM,
    Knob,
    Subject,
    at_angle,
    loss_and_gradient,
    loss_of,
    scene,
    turns,
)
from lossbench.registry import Spec


@dataclass(frozen=True)
class Finding:
    """One property of one loss: status is pass, fail or skip; the figure says what was measured, or why not."""

    name: str
    status: str
    figure: str


class Broken(Exception):
    """A property does not hold; the message is the figure, and names the likely mistake."""


class Skipped(Exception):
    """A property cannot be asked of this loss, or not on this machine; the message says why."""


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: for tensors of a few hundred numbers, waking a second one costs more than it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


Property = Callable[[Subject], str]
PROPERTIES: dict[str, Property] = {}
SLOW = ("torch.compile", "overfits 64 faces")  # seconds each


def named(name: str) -> Callable[[Property], Property]:
    """Enter a function into the list of properties."""

    def enter(function: Property) -> Property:
        PROPERTIES[name] = function
        return function

    return enter


def check(spec: Spec, *, only: Callable[[str], bool] = lambda name: True) -> Iterator[Finding]:
    """Yield a finding per property, in the order of `PROPERTIES`, as they are measured.

    Args:
        spec: one loss or a mix.
        only: which properties, by name.
    """
    from lossbench import conformance_slow  # noqa: F401 - enters its properties, after those of this module

    subject = Subject(spec)
    for name, function in PROPERTIES.items():
        if not only(name):
            continue
        try:
            with one_thread() if name not in SLOW else nullcontext():
                figure = function(subject)
            yield Finding(name, "pass", figure)
        except Broken as broken:
            yield Finding(name, "fail", str(broken))
        except Skipped as reason:
            yield Finding(name, "skip", str(reason))
        except Exception as error:  # whatever a plugin raises is what this line is for
            yield Finding(
                name, "fail", f"raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )


@named("one number")
def _one_number(s: Subject) -> str:
    """The loss is a differentiable scalar, and scores and centers have the shapes they should."""
    head = s.head(dtype=torch.float32)
    x, labels = scene(head)
    x = x.float().requires_grad_()
    loss = loss_of(head, x, labels)
    if loss.ndim != 0:
        raise Broken(f"forward returns shape {list(loss.shape)}, not one number: end it with .mean()")
    if not loss.requires_grad:
        raise Broken("the loss does not depend on the embeddings: it has no gradient")
    logits, centers = head.logits(x), head.class_centers()
    if logits is not None and logits.shape != (len(x), CLASSES):
        raise Broken(f"logits have shape {list(logits.shape)}, not [B, C] = [{len(x)}, {CLASSES}]")
    if centers is not None:
        if centers.shape != (CLASSES, DIM):
            raise Broken(f"class_centers have shape {list(centers.shape)}, not [C, D] = [{CLASSES}, {DIM}]")
        if (centers.norm(dim=1) - 1).abs().max() > 1e-4:
            raise Broken("class_centers are not unit rows")
    return f"loss {loss.item():.4g}"


def _angles_of_interest(s: Subject) -> list[tuple[str, float]]:
    margins = [k.value for k in s.knobs if k.is_margin and isinstance(k.value, float) and 0 < k.value < math.pi]
    found = [("0", 0.02), ("pi/2", math.pi / 2), ("pi", math.pi - 0.02)]
    for m in margins:
        found += [("pi - margin", math.pi - m - 0.02), ("pi - margin", math.pi - m + 0.02)]
    return found


@named("gradient is the loss's derivative")
def _gradient(s: Subject) -> str:
    """Autograd against central differences in float64, for embeddings and weights."""
    head = s.laid_out()
    labels = torch.arange(4)
    if head.class_centers() is None:
        places = [("random pairs", *scene(head, seed=i)) for i in range(3)]
    else:
        places = [(n, at_angle(head, torch.full((4,), t), labels, tilt=0.1), labels) for n, t in _angles_of_interest(s)]
        places.append(("random", *scene(head)))
    worst, where = 0.0, ""
    for name, x, y in places:
        error = _gradient_error(head, x, y)
        if error >= worst:
            worst, where = error, name
    figure = f"largest relative error {worst:.1e}, at theta = {where}"
    if worst <= 1e-4:
        return figure
    if head.stops_gradient:
        return f"{figure}; by design: constant is {head.stops_gradient}"
    raise Broken(f"{figure}: part of the loss (its margin?) is computed under no_grad or detached, or theta has a kink")


def _gradient_error(head: Head, x: Tensor, labels: Tensor) -> float:
    x = x.detach().clone().requires_grad_()
    weights = [p for p in head.parameters() if p.requires_grad]
    generator = torch.Generator().manual_seed(5)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
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
                    tensor.copy_(start + sign * 1e-6 * direction)
                    values.append(float(loss_of(head, x, labels)))
            with torch.no_grad():
                tensor.copy_(start)
            difference = (values[0] - values[1]) / 2e-6
            floor = 1e-3 * max(1.0, abs(values[0]))  # below this, rounding is all one would measure
            worst = max(worst, abs(along - difference) / max(abs(along), abs(difference), floor))
    return worst


@named("finite at cos = 1 and -1")
def _finite(s: Subject) -> str:
    """Exactly parallel and antiparallel to the own center: acos and an unguarded root have an infinite slope there."""
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
                f"the loss is {loss.item()} in {kind}: is there an acos, or a root or logarithm without floor?"
            )
        for gradient in found:
            if gradient is not None and not gradient.isfinite().all():
                raise Broken(f"the gradient is not finite in {kind}: acos, or sqrt(1 - c^2) without a floor?")
            largest = max(largest, 0.0 if gradient is None else float(gradient.abs().max()))
    return f"largest gradient {largest:.3g} over float64, float32, bfloat16, float16"


@named("float32 under autocast")
def _autocast(s: Subject) -> str:
    """Half-precision embeddings give the loss of the same numbers in float32: logits do not collapse."""
    worst = 0.0
    for dtype in (torch.bfloat16, torch.float16):
        head = s.laid_out(dtype=torch.float32)
        x, labels = scene(head)
        with torch.autocast("cpu", dtype=dtype):
            loss = loss_of(head, x.to(dtype), labels)
        if loss.dtype not in (torch.float32, torch.float64):
            raise Broken(f"the loss is {loss.dtype} for {dtype} embeddings; compute it in float32")
        want = loss_of(head, x.to(dtype).float(), labels).item()
        worst = max(worst, abs(loss.item() - want) / max(1e-6, abs(want)))
    if not worst <= 1e-3:
        raise Broken(
            f"relative error {worst:.1e}: logits are rounded to half precision; use lossbench.linear or cosine"
        )
    return f"relative error {worst:.1e}"


@named("own dtype kept")
def _dtype(s: Subject) -> str:
    """Half-precision embeddings leave the head's own tensors as they are."""
    head = s.head(dtype=torch.float32)
    before = {name: tensor.dtype for name, tensor in head.state_dict().items()}
    x, labels = scene(head)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        head(x.bfloat16(), labels)
    for name, tensor in head.state_dict().items():
        if tensor.dtype != before[name]:
            raise Broken(f"a bfloat16 batch turned {name} into {tensor.dtype} for good (it was {before[name]})")
    return f"{len(before)} tensors"


@named("loss falls with the own angle")
def _falls(s: Subject) -> str:
    """From pi to 0 the loss never rises; where it is flat is said."""
    head = s.laid_out()
    if head.class_centers() is None:
        raise Skipped("no class centers: pairs of the batch decide")
    theta = torch.linspace(math.pi, 0, 181, dtype=torch.float64)
    one = torch.zeros(1, dtype=torch.int64)
    found = torch.stack([loss_of(head, at_angle(head, t.view(1), one), one).detach() for t in theta])
    rises = found.diff()
    tolerance = 1e-9 * max(1.0, float(found.abs().max()))
    if rises.max() > tolerance:
        i = int(rises.argmax())
        raise Broken(
            f"the loss rises by {rises.max():.2g} from {math.degrees(theta[i]):.0f} to "
            f"{math.degrees(theta[i + 1]):.0f} degrees: no fall-back where theta + margin > pi?"
        )
    flat = float((rises.abs() <= 1e-12 * found.abs().max()).double().mean())
    return f"from {found[0]:.4g} to {found[-1]:.2g}" + (f", flat over {flat:.0%} of the angles" if flat > 0.01 else "")


@named("a larger margin asks for more")
def _margin(s: Subject) -> str:
    """With the same weights and embeddings, more margin never lowers the loss."""
    margins = [k for k in s.knobs if k.is_margin and k.is_number]
    if not margins:
        raise Skipped("no hyper-parameter is a margin by its name")
    least, alone = math.inf, s.head().samples_per_class is not None  # a miner chooses other pairs for another margin
    for knob in margins:
        base = s.laid_out()
        for value in (
            (knob.value + 1, knob.value + 2) if isinstance(knob.value, int) else (knob.value * 1.1, knob.value * 1.5)
        ):
            more = s.turned(knob, value).head()
            more.load_state_dict(base.state_dict())
            more.train(base.training)
            for seed in range(8):
                x, labels = scene(base, seed=seed, size=CLASSES - 2 if alone else 8)  # 8: two images of each
                change = (loss_of(more, x, labels) - loss_of(base, x, labels)).item()
                if change < -1e-9:
                    raise Broken(f"{knob.label} from {knob.value:g} to {value:g} lowers the loss by {-change:.2g}")
                least = min(least, change)
    what = " on a batch without pairs" if alone else ""
    return f"{', '.join(k.label for k in margins)}: the loss rises by {least:.2g} or more{what}"


@named("margin 0 is the plain softmax")
def _plain(s: Subject) -> str:
    """Where the head says so (`plain_at`), the loss is the cross-entropy of scale * logits."""
    claim = s.head().plain_at
    if claim is None or len(s.spec.terms) > 1:
        raise Skipped("the head names no hyper-parameters where it would be (plain_at)")
    plain = s
    for setting in filter(None, claim.split(":")):
        name, value = setting.split("=")
        plain = plain.turned(next(k for k in s.knobs if k.name == name), float(value))
    head = plain.laid_out()
    scale = float(next(k.value for k in s.knobs if k.name == "scale"))
    worst = 0.0
    for seed in range(4):
        x, labels = scene(head, seed=seed)
        logits = head.logits(x)
        assert logits is not None
        want = F.cross_entropy(scale * logits, labels)
        worst = max(worst, ((loss_of(head, x, labels) - want).abs() / want.abs().clamp_min(1e-6)).item())
    if worst > 1e-5:
        raise Broken(
            f"at {claim or 'its defaults'} it differs from the softmax of scale * logits by {worst:.1e} (relative)"
        )
    return f"relative difference {worst:.1e} at {claim or 'its defaults'}"


def draws(head: Head, x: Tensor, labels: Tensor) -> bool:
    """Tell whether the loss depends on random numbers."""
    return bool(loss_of(head, x, labels, seed=0) != loss_of(head, x, labels, seed=1))


@named("order of samples")
def _samples(s: Subject) -> str:
    """Permuting the batch changes nothing (a head that draws at random is asked in evaluation mode)."""
    head = s.laid_out()
    x, labels = scene(head)
    head.train(head.training and not draws(head, x, labels))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(1))
    return _same(loss_of(head, x, labels), loss_of(head, x[order], labels[order]), "permuting the batch")


@named("order of classes")
def _classes(s: Subject) -> str:
    """Permuting the classes, weights and labels together, changes nothing."""
    head, other = s.laid_out(), s.laid_out()
    x, labels = scene(head)
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for tensor in (*other.parameters(), *other.buffers()):
            if tensor.ndim and tensor.shape[0] == CLASSES:
                tensor.copy_(tensor[order])
            elif tensor.ndim == 2 and tensor.shape == (DIM, CLASSES):
                tensor.copy_(tensor[:, order])
    return _same(loss_of(head, x, labels), loss_of(other, x, order.argsort()[labels]), "renaming the classes")


def _same(a: Tensor, b: Tensor, what: str, tolerance: float = 1e-8) -> str:
    difference = ((a - b).abs() / a.abs().clamp_min(1e-6)).item()
    if not difference <= tolerance:
        raise Broken(f"{what} changes the loss by {difference:.1e} (relative)")
    return f"relative difference {difference:.1e}"


@named("norm of the embeddings")
def _norm(s: Subject) -> str:
    """Without `uses_norm`, an embedding three times as long costs the same."""
    head = s.laid_out()
    x, labels = scene(head)
    a, b = loss_of(head, x, labels), loss_of(head, 3 * x, labels)
    if head.uses_norm:
        return f"declared: tripled, the loss goes from {a.item():.4g} to {b.item():.4g}"
    try:
        return _same(a, b, "tripling the norm", 1e-6)
    except Broken as broken:
        raise Broken(f"{broken}; if that is meant, declare uses_norm = True") from None


@named("evaluation changes nothing")
def _evaluation(s: Subject) -> str:
    """Forward, logits and centers in evaluation mode leave buffers, weights and attributes as they were."""
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
        raise Broken("the same batch has another loss after other batches were evaluated")
    return f"{len(before)} tensors, {len(attributes)} numbers"


def _numbers(head: Head) -> dict[str, float]:
    found = {}
    for prefix, module in ((p, m) for p, m in head.named_modules() if isinstance(m, Head)):
        for name, value in vars(module).items():
            if isinstance(value, int | float) and name != "training":
                found[f"{prefix}.{name}".lstrip(".")] = float(value)
    return found


@named("state_dict round trip")
def _round_trip(s: Subject) -> str:
    """A head saved in mid-training and loaded into a fresh one goes on as the first does."""
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


@named("every hyper-parameter matters")
def _ignored(s: Subject) -> str:
    """Turning any of them changes the loss of one of the first training steps."""
    base = _first_steps(s)
    ignored, asked = [], []
    for knob in s.knobs:
        values = turns(knob)
        if not values:
            continue
        asked.append(knob.label)
        if not any(_matters(s, knob, value, base) for value in values):
            ignored.append(f"{knob.label} = {knob.value}")
    if ignored:
        raise Broken(f"ignored: {', '.join(ignored)}: turned up and down, nothing changes")
    if not asked:
        raise Skipped("it has none")
    return ", ".join(asked)


def _matters(s: Subject, knob: Knob, value: float, base: list[float]) -> bool:
    try:
        found = _first_steps(s.turned(knob, value))
    except Exception:
        return True
    return found != base


def _first_steps(s: Subject) -> list[float]:
    head, found = s.head(), []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for seed in range(4):
            found.append(float(head(*scene(head, seed=seed)).detach()))
    theta = torch.linspace(0, math.pi, 9, dtype=torch.float64)
    laid = s.laid_out(settled=False) if head.class_centers() is not None else None
    if laid is not None:
        labels = torch.zeros(9, dtype=torch.int64)
        found.append(float(loss_of(laid, at_angle(laid, theta, labels), labels).detach()))
    return found


@named("margins are radians")
def _radians(s: Subject) -> str:
    """An angle repeats itself: after 2 pi where it is in radians, after 360 where it is in degrees."""
    units = {
        knob.label: (unit_of(s, knob), knob.value, knob.name) for knob in s.knobs if knob.is_margin and knob.is_number
    }
    declared = s.head().margin_in_degrees
    for label, (unit, value, name) in units.items():
        if unit == "degrees" and not (declared or name.endswith("degrees")):
            raise Broken(f"{label} = {value:g} is taken as degrees ({math.radians(value):.3g} radians)")
        if unit == "radians" and abs(value) > math.pi:
            raise Broken(f"{label} = {value:g} is taken as radians, {value / math.pi:.2g} times pi: are these degrees?")
    angular = [f"{label}: {unit}" for label, (unit, _, _) in units.items() if unit]
    if declared:
        return "margin: degrees, as the head declares"
    if not angular:
        raise Skipped("no margin is an angle added to theta")
    return ", ".join(angular)


def unit_of(s: Subject, knob: Knob) -> str | None:
    """Return radians or degrees for a margin that is added to the angle, else None."""
    if isinstance(knob.value, int) or s.head().class_centers() is None:
        return None
    head = s.laid_out()
    labels = torch.zeros(1, dtype=torch.int64)

    def loss(value: float, theta: float) -> float:
        other = s.turned(knob, value).head()
        other.load_state_dict(head.state_dict())
        x = at_angle(head, torch.tensor([theta]), labels)
        return loss_of(other.train(head.training), x, labels).item()

    for theta in (0.3, 0.8, 1.4):  # at one of them theta + margin lies below pi, whatever the margin
        try:
            steps = (0.0, math.pi, 2 * math.pi, 360.0)
            base, half, turn, degrees = (loss(knob.value + step, theta) for step in steps)
        except Exception:  # a loss that refuses such a margin does not take it for a free angle
            return None
        close = 1e-6 * abs(base) + 1e-14
        if abs(turn - base) <= close < abs(half - base):
            return "radians"
        if abs(degrees - base) <= close < abs(turn - base):
            return "degrees"
    return None


@named("labels out of range")
def _labels(s: Subject) -> str:
    """A label that is no class is refused, not counted as another or left out."""
    head = s.head()
    if head.logits(scene(head)[0]) is None:
        raise Skipped("no classes: labels only tell who is whom")
    for wrong in (-1, CLASSES):
        x, labels = scene(head)
        labels[3] = wrong
        try:
            loss_of(head, x, labels)
        except (IndexError, ValueError, RuntimeError):
            continue
        raise Broken(f"label {wrong} of {CLASSES} classes passes without an error")
    return f"-1 and {CLASSES} raise"


@named("a batch of one")
def _one(s: Subject) -> str:
    """One image is a batch: loss and gradient are finite."""
    return _finite_on(s, 1)


@named("classes absent")
def _absent(s: Subject) -> str:
    """A batch that shows one class of six has a finite loss and gradient."""
    return _finite_on(s, 4)


def _finite_on(s: Subject, size: int) -> str:
    head = s.head()
    x, labels = scene(head, size=size)
    loss, gradient = loss_and_gradient(head, x, torch.zeros_like(labels))
    if not (loss.isfinite() and gradient.isfinite().all()):
        raise Broken(f"the loss is {loss.item():.4g}, its largest gradient {gradient.abs().max():.4g}")
    return f"loss {loss.item():.4g}"


@named("logits without margin")
def _logits(s: Subject) -> str:
    """Scores change neither with the margin nor with the labels that came before."""
    head = s.head()
    x, labels = scene(head)
    first = head.logits(x)
    if first is None:
        raise Skipped("no logits: accuracy is measured by nearest class mean")
    first = first.detach().clone()
    head.eval()(x, labels)
    again = head.logits(x)
    assert again is not None
    if not torch.equal(again.detach(), first):
        raise Broken("logits change once forward has seen labels: they carry the margin, and so would the accuracy")
    for knob in s.knobs:
        if knob.is_margin and knob.is_number:
            other = s.turned(knob, knob.value + 1).head()
            other.load_state_dict(s.head().state_dict())
            scores = other.logits(x)
            if scores is None or not torch.equal(scores.detach(), first):
                raise Broken(f"logits change with {knob.label}: they carry the margin, and so would the accuracy")
    return "the same before and after forward, and for every margin"
