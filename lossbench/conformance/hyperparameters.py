"""Every hyper-parameter does something, and the ends of its declared range are possible."""

import math

import torch

from lossbench.conformance.probe import Knob, Subject, at_angle, loss_and_gradient, loss_of, scene, seeded
from lossbench.conformance.property import Broken, Skipped, named


@named("every hyper-parameter matters")
def parameters_matter(s: Subject) -> str:
    """Turning any of them changes the loss of one of the first training steps by more than rounding does."""
    turned = [knob for knob in s.knobs if knob.turns()]
    if not turned:
        raise Skipped("it has none")
    base = _first_steps(s)
    ignored = [f"{knob.label} = {knob.value}" for knob in turned if not _matters(s, knob, base)]
    if ignored:
        raise Broken(f"ignored: {', '.join(ignored)}: turned up and down, nothing changes")
    return ", ".join(knob.label for knob in turned)


def _matters(s: Subject, knob: Knob, base: list[float]) -> bool:
    """Tell whether another value changes the loss; where the head accepts no other value, it does read this one."""
    accepted = False
    for value in knob.turns():
        try:
            found = _first_steps(s.turned(knob, value))
        except Exception:  # a plugin may refuse a value by raising anything; that alone does not show that it is used
            continue
        accepted = True
        tolerance = s.tolerance(1e-9, 5e-3)  # of the logits, which a value turned far up makes large
        if any(not abs(a - b) <= tolerance * max(1.0, abs(b)) for a, b in zip(found, base, strict=True)):
            return True
    return not accepted


def _first_steps(s: Subject) -> list[float]:
    """Return the losses of four training steps and, with class centers, of a head laid out."""
    head, found = s.head(), []
    with seeded(0):
        for seed in range(4):
            found.append(float(head(*scene(head, seed=seed)).detach()))
    if head.class_centers() is not None:
        laid, labels = s.laid_out(settled=False), torch.zeros(9, dtype=torch.int64)
        theta = torch.linspace(0, math.pi, 9, dtype=torch.float64)
        found.append(float(loss_of(laid, at_angle(laid, theta, labels), labels).detach()))
    return found


@named("finite at the ends of its ranges")
def finite_in_range(s: Subject) -> str:
    """A hyper-parameter at either end of its declared range gives a finite loss and gradient."""
    tried = []
    for knob in s.knobs:
        for value in _ends(knob):
            head = s.turned(knob, value).head()
            loss, gradient = loss_and_gradient(head, *scene(head))
            if not (loss.isfinite() and gradient.isfinite().all()):
                raise Broken(f"at {knob.label} = {value:g} the loss is {loss.item():.4g}; narrow `ranges`")
            tried.append(f"{knob.label} = {value:g}")
    if not tried:
        raise Skipped("it declares no ranges")
    return ", ".join(tried)


def _ends(knob: Knob) -> list[int | float]:
    """Return the finite ends of a range; for an open end, what lies next to it."""
    if knob.range is None or not knob.is_number:
        return []
    found = []
    for end, is_open in ((knob.range.low, knob.range.low_is_open), (knob.range.high, knob.range.high_is_open)):
        if math.isfinite(end):
            whole = isinstance(knob.value, int)
            inwards = math.copysign(1, knob.value - end) if whole else 1e-3 * (knob.value - end)
            found.append(type(knob.value)(end + inwards if is_open else end))
    return [value for value in found if knob.range.accepts(value)]
