"""A head under examination: built as often as needed, its classes laid out so that one angle is all that changes.

Nothing here changes the head it examines: every loss is taken from a copy, with the same random draws.
"""

import copy
import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor

from lossbench.losses.head import Head
from lossbench.losses.loading import load_class, load_head
from lossbench.losses.ranges import Range
from lossbench.losses.spec import Spec

CLASSES, DIM, NORM = 6, 24, 8.0  # room for three centers a class and a direction at right angles to all of them
_SETTLE = 2000  # training steps after which a schedule such as SphereFace's lambda has ended


@dataclass(frozen=True)
class Knob:
    """One hyper-parameter of one term of a spec: its value there, and the range that its plugin declares."""

    term: int
    name: str
    label: str
    value: Any
    range: Range | None = None

    @property
    def is_margin(self) -> bool:
        """True for a hyper-parameter that is a margin by its name: more of it asks for more."""
        return "margin" in self.name or self.name in ("m", "m1", "m2", "m3")

    @property
    def is_number(self) -> bool:
        """True where the value can be turned up and down."""
        return isinstance(self.value, int | float) and not isinstance(self.value, bool)

    def turns(self) -> list[Any]:
        """Return other values: a little more, and far away, as far as the range allows."""
        if isinstance(self.value, bool):
            return [not self.value]
        if not self.is_number:
            return []
        if isinstance(self.value, int):
            return self._possible([self.value + 1, self.value + 3])
        return self._possible([self.value * 1.3 + 0.01, self.value * 1000 + 1, self.value / 1000])

    def larger(self) -> list[Any]:
        """Return two larger values of a number, as far as the range allows."""
        if isinstance(self.value, int):
            return self._possible([self.value + 1, self.value + 2], upwards=True)
        return self._possible([self.value + share * (abs(self.value) or 1) for share in (0.1, 0.5)], upwards=True)

    def _possible(self, values: list[Any], *, upwards: bool = False) -> list[Any]:
        """Return those of the values that the range allows; if none, those halfway to its ends."""
        if self.range is None:
            return values
        ends = [self.range.high] if upwards else [self.range.high, self.range.low]
        halfway = [type(self.value)((self.value + end) / 2) for end in ends if math.isfinite(end)]
        for candidates in (values, halfway):
            if found := [v for v in candidates if v != self.value and self.range.accepts(v)]:
                return found
        return []


@dataclass(frozen=True)
class Subject:
    """What is examined: a spec, from which heads of six classes are built as often as needed.

    `single` says that the head computes in float32 whatever it is given: it then keeps float32 weights, takes float64
    embeddings all the same, and is measured at that precision.
    """

    spec: Spec
    single: bool = False

    def tolerance(self, double: float, single: float = 1e-4) -> float:
        """Return the relative difference that rounding alone explains."""
        return single if self.single else double

    @cached_property
    def knobs(self) -> tuple[Knob, ...]:
        """All hyper-parameters, with the values they have here."""
        found = []
        for i, term in enumerate(self.spec.terms):
            for name, parameter in inspect.signature(load_class(term.plugin)).parameters.items():
                if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                    label = f"{term.plugin.name}.{name}" if len(self.spec.terms) > 1 else name
                    declared = term.plugin.parameter(name)
                    value = term.values.get(name, parameter.default)
                    found.append(Knob(i, name, label, value, declared.range if declared else None))
        return tuple(found)

    @property
    def margins(self) -> tuple[Knob, ...]:
        """The hyper-parameters that are numbers and margins by their name."""
        return tuple(knob for knob in self.knobs if knob.is_margin and knob.is_number)

    def turned(self, knob: Knob, value: Any) -> "Subject":
        """Return the same loss with one hyper-parameter at another value, also outside of its range."""
        terms = list(self.spec.terms)
        terms[knob.term] = replace(terms[knob.term], values={**terms[knob.term].values, knob.name: value})
        return replace(self, spec=Spec(tuple(terms)))

    def part(self, knob: Knob) -> "Subject":
        """Return the one loss of a mix that has this hyper-parameter."""
        return replace(self, spec=Spec((replace(self.spec.terms[knob.term], weight=1.0),)))

    def head(self, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> Head:
        """Return a fresh head in training mode, the same for the same seed."""
        with seeded(seed):
            head = load_head(self.spec, num_classes=CLASSES, embedding_dim=DIM).train()
        return _in_float32(head) if self.single else head.to(dtype)

    @cached_property
    def settled_state(self) -> dict[str, Tensor]:
        """The buffers of a head in mid-training: schedules have ended, running means have seen data."""
        head = self.head()
        if any(True for _ in head.buffers()):
            x, labels = scene(head)
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                for _ in range(_SETTLE):
                    head(x, labels)
        return {name: buffer.clone() for name, buffer in head.named_buffers()}

    def laid_out(self, *, rotate: bool = True, dtype: torch.dtype = torch.float64, settled: bool = True) -> Head:
        """Return a head whose class weights are orthogonal.

        Args:
            rotate: whether the weights point anywhere; else they are multiples of unit vectors, so that a cosine of 1
                is exactly 1.
            dtype: of all its tensors.
            settled: put a head that keeps a state into mid-training, and into evaluation mode.
        """
        head = self.head()
        if settled and self.settled_state:
            head.load_state_dict({**head.state_dict(), **self.settled_state})
            head.eval()
        directions = basis(rotate)
        with torch.no_grad():
            for p in head.parameters():
                rows = p.T if p.ndim == 2 and p.shape[0] == DIM else p  # pytorch-metric-learning keeps them as columns
                count = rows.numel() // DIM
                if rows.ndim >= 2 and rows.shape[-1] == DIM and count < DIM:
                    rows.copy_(directions[:count].view(rows.shape) * 2)
        return head.to(torch.float32 if self.single else dtype)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let draws on the CPU start from a seed; afterwards they continue as before.

    `torch.manual_seed` also seeds absent GPUs: it keeps a traceback of every call, and takes half a millisecond.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def examined(spec: Spec) -> Subject:
    """Return what is examined, with its precision as it is measured: float64, or float32 where it casts to that."""
    subject = Subject(spec)
    try:
        head = subject.head()
        x, labels = scene(head)
        loss, gradient = loss_and_gradient(head, x, labels)
        nudges = [loss_of(head, x * (1 + sign * 1e-11), labels, seed=0) for sign in (-2, -1, 1, 2)]
        nudges += [loss_of(head, x + sign * 1e-11 * gradient.sign(), labels, seed=0) for sign in (-2, -1, 1, 2)]
        is_felt = gradient.abs().max() < 1e-3 or any(nudged != loss for nudged in nudges)
        return replace(subject, single=loss.dtype == torch.float32 or not is_felt)
    except Exception:  # a plugin may raise anything: with float32 all the way it may be sound, or else say why not
        single = replace(subject, single=True)
        try:
            head = single.head()
            loss_and_gradient(head, *scene(head))
        except Exception:  # it fails at either precision, and every property says with what
            return subject
        return single


def _in_float32(head: Head) -> Head:
    """Return the head with float32 weights; it casts the embeddings that it is given, and its loss back to float64."""
    head.float()
    scores = head.logits

    def logits(embeddings: Tensor) -> Tensor | None:
        return scores(embeddings.float())

    head.logits = logits  # type: ignore[method-assign] # an instance's own, so that the class stays as it is
    head.register_forward_pre_hook(lambda _, given: (_single(given[0]), *given[1:]))
    head.register_forward_hook(lambda _, given, loss: loss.double() if loss.dtype == torch.float32 else loss)
    return head


def _single(embeddings: Tensor) -> Tensor:
    return embeddings.float() if embeddings.dtype == torch.float64 else embeddings


@cache
def basis(rotate: bool) -> Tensor:
    """Return DIM orthonormal rows; no class lies along the last one."""
    if not rotate:
        return torch.eye(DIM, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    rows: Tensor = torch.linalg.qr(torch.randn(DIM, DIM, dtype=torch.float64, generator=generator))[0]
    return rows


def at_angle(head: Head, theta: Tensor, labels: Tensor, *, rotate: bool = True, tilt: float = 0.0) -> Tensor:
    """Return embeddings [B, DIM] at the angles `theta` [B] from their own class centers, at pi/2 from all others.

    Args:
        head: from `Subject.laid_out` with the same `rotate`, with class centers.
        theta: radians.
        labels: [B].
        tilt: how far the direction away from the center leans towards other classes, so that none of them tie.
    """
    centers = head.class_centers()
    assert centers is not None
    own, directions = centers[labels].double(), basis(rotate)
    leaning = directions.mT @ torch.linspace(-tilt, tilt, DIM, dtype=torch.float64)
    away = directions[-1] + leaning - (own @ leaning).unsqueeze(1) * own
    away = torch.nn.functional.normalize(away, dim=1)
    t = theta.double().unsqueeze(1)
    return NORM * (t.cos() * own + t.sin() * away)


def scene(head: Head, *, seed: int = 0, size: int = 8) -> tuple[Tensor, Tensor]:
    """Return embeddings [size, DIM] of norms 8 to 16, roughly near their class centers, and their labels [size].

    Two of the six classes are absent.
    """
    generator = torch.Generator().manual_seed(1000 + seed)
    labels = torch.arange(size) % (CLASSES - 2)
    centers = head.class_centers()
    if centers is None:
        centers = torch.randn(CLASSES, DIM, generator=generator) / math.sqrt(DIM)
    centers = centers.detach().double()
    x = centers[labels] + torch.randn(size, DIM, dtype=torch.float64, generator=generator) * 0.25
    norms = NORM * (1 + torch.rand(size, 1, dtype=torch.float64, generator=generator))
    return torch.nn.functional.normalize(x, dim=1) * norms, labels


def loss_of(head: Head, x: Tensor, labels: Tensor, *, seed: int = 0) -> Tensor:
    """Return the loss from a copy of `head`, which stays as it is."""
    with seeded(seed):
        loss: Tensor = copy.deepcopy(head)(x, labels)
        return loss


def loss_and_gradient(head: Head, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the loss and its gradient with respect to the embeddings [B, D], by autograd."""
    x = x.detach().clone().requires_grad_()
    loss = loss_of(head, x, labels)
    gradient = torch.autograd.grad(loss, x, allow_unused=True)[0]
    return loss.detach(), torch.zeros_like(x) if gradient is None else gradient
