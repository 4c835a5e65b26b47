"""What a loss really does, measured from the plugin by autograd instead of read from its formula.

All classes but the own one stay at 90 degrees while the own-class angle goes from 0 to 180. So the loss of one image
gives the own-class logit that a softmax would have needed for it: the *target logit*.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lossbench.conformance.check import check, one_thread
from lossbench.conformance.margins import units
from lossbench.conformance.probe import CLASSES, NORM, Subject, at_angle, examined, loss_and_gradient
from lossbench.errors import InputError
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import Spec, parse_spec

BESIDE = ("ce", "arcface")
STEPS = 361
_FLAGS = {
    "gradient is the loss's derivative": "detached margin",
    "every hyper-parameter matters": "ignored parameter",
    "loss falls with the own angle": "non-monotone",
    "no jump with the own angle": "jump",
    "margins are radians": "suspected degrees",
}


@dataclass(frozen=True)
class Curve:
    """One loss against theta [steps] in radians: loss, target logit, and the gradient's norm times the embedding's."""

    name: str
    theta: Tensor
    loss: Tensor
    target_logit: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Passport:
    """Curves of the loss and of those beside it; what is suspicious, a line each; the margins' units."""

    curves: tuple[Curve, ...]
    flags: tuple[str, ...]
    units: tuple[str, ...]


def measure_passport(spec: Spec) -> Passport:
    """Measure a loss, and CE and ArcFace beside it.

    Raises:
        InputError: the loss has no class centers, so there is no own-class angle.
    """
    subject = examined(spec)
    if subject.head().class_centers() is None:
        raise InputError(
            f"'{spec}' has no class centers, so there is no own-class angle to plot against; use lossbench check"
        )
    others = [parse_spec(name, find_plugins()) for name in BESIDE if name != str(spec)]
    with one_thread():
        curves = tuple(measure_curve(s, STEPS) for s in (subject, *map(Subject, others)))
    flags = [
        f"{_FLAGS[f.name]}: {f.figure}"
        for f in check(spec, only=lambda prop: prop.name in _FLAGS)
        if f.status == "fail"
    ]
    head = subject.head()
    if head.stops_gradient:
        flags.append(f"by design, the gradient is not the loss's derivative; held constant: {head.stops_gradient}")
    return Passport(curves, tuple(flags), tuple(f"{label} in {unit}" for label, unit in units(subject).items()))


def measure_curve(s: Subject, steps: int) -> Curve:
    """Measure one loss, which has class centers, at so many angles from 0 to 180 degrees."""
    head = s.laid_out()
    theta = torch.linspace(0, math.pi, steps, dtype=torch.float64)
    own = torch.zeros(1, dtype=torch.int64)
    losses, gradients = [], []
    for t in theta:
        loss, gradient = loss_and_gradient(head, at_angle(head, t.view(1), own), own)
        losses.append(loss)
        gradients.append(gradient.norm() * NORM)
    loss = torch.stack(losses).double()
    target = math.log(CLASSES - 1) - torch.log(torch.expm1(loss))
    target = torch.where(loss > 1e-13, target, torch.nan)  # below, cross-entropy has lost its digits
    return Curve(str(s.spec), theta, loss, target, torch.stack(gradients).double())
