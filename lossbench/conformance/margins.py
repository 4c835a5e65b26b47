"""What a margin must do: ask for more, in radians, in the loss and not in the scores."""

import math

import torch
import torch.nn.functional as F

from lossbench.conformance.probe import CLASSES, Knob, Subject, at_angle, loss_of, scene
from lossbench.conformance.property import Broken, Skipped, named


@named("loss falls with the own angle")
def loss_falls(s: Subject) -> str:
    """From pi to 0 the loss never rises; the figure says over how many angles it is flat."""
    head = s.laid_out()
    if head.class_centers() is None:
        raise Skipped("no class centers: pairs of the batch decide")
    theta = torch.linspace(math.pi, 0, 181, dtype=torch.float64)
    one = torch.zeros(1, dtype=torch.int64)
    found = torch.stack([loss_of(head, at_angle(head, t.view(1), one), one).detach() for t in theta])
    rises = found.diff()
    tolerance = s.tolerance(1e-9, 1e-5) * max(1.0, float(found.abs().max()))
    if rises.max() > tolerance:
        i = int(rises.argmax())
        raise Broken(
            f"the loss rises by {rises.max():.2g} from {math.degrees(theta[i]):.0f} to "
            f"{math.degrees(theta[i + 1]):.0f} degrees: no fall-back where theta + margin > pi?"
        )
    flat = float((rises.abs() <= 1e-12 * found.abs().max()).double().mean())
    return f"from {found[0]:.4g} to {found[-1]:.2g}" + (f", flat over {flat:.0%} of the angles" if flat > 0.01 else "")


_JUMP = 0.25  # of the loss's fall from pi to 0; ArcFace's own, where theta + margin = pi, is a tenth


@named("no jump with the own angle")
def no_jump(s: Subject) -> str:
    """Where the loss changes most between two angles, halving the distance halves the change."""
    head = s.laid_out()
    if head.class_centers() is None:
        raise Skipped("no class centers: pairs of the batch decide")
    one = torch.zeros(1, dtype=torch.int64)

    def loss(theta: float) -> float:
        return float(loss_of(head, at_angle(head, torch.tensor([theta], dtype=torch.float64), one), one).detach())

    angles = [math.pi * i / 180 for i in range(181)]
    losses = [loss(theta) for theta in angles]
    if not (whole := max(losses) - min(losses)):
        return "the loss is constant"
    largest, where = 0.0, 0.0
    steps = sorted(range(180), key=lambda i: -abs(losses[i + 1] - losses[i]))
    for i in steps[:8]:
        low, high, below, above = angles[i], angles[i + 1], losses[i], losses[i + 1]
        while high - low > s.tolerance(1e-9, 1e-5):
            middle = (low + high) / 2
            between = loss(middle)
            if abs(between - below) > abs(above - between):
                high, above = middle, between
            else:
                low, below = middle, between
        if abs(above - below) > largest:
            largest, where = abs(above - below), math.degrees(low)
    share = largest / whole
    figure = f"at {where:.1f} degrees the loss jumps by {largest:.3g}, {share:.0%} of all that it falls"
    if share > _JUMP:
        raise Broken(f"{figure}: do the two sides of a condition, such as a fall-back, differ in scale?")
    return figure if share > 1e-3 else f"no change of more than {max(largest, 1e-9 * whole):.1g} at any one angle"


@named("a larger margin asks for more")
def larger_margin(s: Subject) -> str:
    """With the same weights and embeddings, more margin never lowers the loss."""
    if not s.margins:
        raise Skipped("no hyper-parameter is a margin by its name")
    if not (margins := [knob for knob in s.margins if knob.larger()]):
        raise Skipped("no margin may be larger")
    least, alone = math.inf, s.head().samples_per_class is not None  # a miner chooses other pairs for another margin
    for knob in margins:
        base = s.laid_out()
        for value in knob.larger():
            more = s.turned(knob, value).head()
            more.load_state_dict(base.state_dict())
            more.train(base.training)
            for seed in range(8):
                x, labels = scene(base, seed=seed, size=CLASSES - 2 if alone else 8)  # 8: two images of each
                change = (loss_of(more, x, labels) - loss_of(base, x, labels)).item()
                if change < -s.tolerance(1e-9, 1e-5):
                    raise Broken(f"{knob.label} from {knob.value:g} to {value:g} lowers the loss by {-change:.2g}")
                least = min(least, change)
    what = " on a batch without pairs" if alone else ""
    return f"{', '.join(k.label for k in margins)}: the loss rises by {least:.2g} or more{what}"


@named("margin 0 is the plain softmax")
def plain_at_zero(s: Subject) -> str:
    """Where the head says so (`plain_at`), the loss is the cross-entropy of scale * logits; the norm is a scale too."""
    claim = s.head().plain_at
    if claim is None or len(s.spec.terms) > 1:
        raise Skipped("the head names no hyper-parameters where it would be (plain_at)")
    plain = s
    for setting in filter(None, claim.split(":")):
        name, value = setting.split("=")
        knob = next((k for k in s.knobs if k.name == name), None)
        if knob is None:
            raise Broken(f"plain_at names {name}, which is no hyper-parameter")
        plain = plain.turned(knob, type(knob.value)(value))
        if knob.range and not knob.range.accepts(float(value)):
            raise Broken(f"plain_at names {setting}, which `ranges` excludes: {knob.range.text}")
    head = plain.laid_out()
    scales = [float(k.value) for k in s.knobs if k.name == "scale"]
    if not scales and not head.uses_norm:
        raise Broken("it has neither a hyper-parameter scale nor uses_norm: the softmax of what would it be?")
    worst = 0.0
    for seed in range(4):
        x, labels = scene(head, seed=seed)
        logits = head.logits(x)
        assert logits is not None
        scale = scales[0] if scales else x.norm(dim=1, keepdim=True)
        want = F.cross_entropy(scale * logits, labels)
        worst = max(worst, ((loss_of(head, x, labels) - want).abs() / want.abs().clamp_min(1e-6)).item())
    if worst > s.tolerance(1e-5):
        raise Broken(
            f"at {claim or 'its defaults'} it differs from the softmax of scale * logits by {worst:.1e} (relative)"
        )
    return f"relative difference {worst:.1e} at {claim or 'its defaults'}"


@named("margins are radians")
def in_radians(s: Subject) -> str:
    """An angle repeats itself: after 2 pi where it is in radians, after 360 where it is in degrees."""
    for knob in s.margins:
        declared, measured = _declared_unit(s, knob), _measured_unit(s, knob)
        what = f"{knob.label} = {knob.value:g}"
        if measured == "degrees" and declared != "degrees":
            raise Broken(f"{what} is taken as degrees ({math.radians(knob.value):.3g} radians)")
        if measured == "radians" and declared == "degrees":
            raise Broken(f"{what} is declared to be in degrees and taken as radians")
        if measured == "radians" and abs(knob.value) > math.pi:
            raise Broken(f"{what} is taken as radians, {knob.value / math.pi:.2g} times pi: are these degrees?")
    if not (found := units(s)):
        raise Skipped("no margin is an angle added to theta")
    return ", ".join(f"{label}: {unit}" for label, unit in found.items())


def units(s: Subject) -> dict[str, str]:
    """Return, by label, radians or degrees of every margin that is an angle: as it is declared, else as measured."""
    found = {knob.label: _declared_unit(s, knob) or _measured_unit(s, knob) for knob in s.margins}
    return {label: unit for label, unit in found.items() if unit}


def _declared_unit(s: Subject, knob: Knob) -> str | None:
    declared = knob.name == "margin" and s.part(knob).head().margin_in_degrees
    return "degrees" if declared or knob.name.endswith("degrees") else None


def _measured_unit(s: Subject, knob: Knob) -> str | None:
    """Return radians or degrees for a margin that is added to the angle, else None.

    What it tries lies outside any range on purpose: what counts here is the formula.
    """
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
        except Exception:  # a plugin may refuse such a margin by raising anything; it is no free angle then
            return None
        close = s.tolerance(1e-6) * abs(base) + 1e-14
        if abs(turn - base) <= close < abs(half - base):
            return "radians"
        if abs(degrees - base) <= close < abs(turn - base):
            return "degrees"
    return None


@named("logits without margin")
def logits_carry_no_margin(s: Subject) -> str:
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
    for knob in s.margins:
        for value in knob.turns()[:1]:
            other = s.turned(knob, value).head()
            other.load_state_dict(s.head().state_dict())
            scores = other.logits(x)
            if scores is None or not torch.equal(scores.detach(), first):
                raise Broken(f"logits change with {knob.label}: they carry the margin, and so would the accuracy")
    return "the same before and after forward, and for every margin"
