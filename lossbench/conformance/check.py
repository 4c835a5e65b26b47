"""What every head must satisfy: a property a line, each with the figure that was measured.

`lossbench check` prints the lines; the test suite runs them over all shipped losses, and over planted bugs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch

from lossbench.conformance import invariances, margins, numerics, slow
from lossbench.conformance.probe import Subject
from lossbench.conformance.property import Broken, Property, Skipped
from lossbench.losses.spec import Spec
from lossbench.utils.text import described

PROPERTIES = (
    numerics.one_number,
    numerics.gradient_is_derivative,
    numerics.finite_at_the_ends,
    numerics.float32_under_autocast,
    numerics.own_dtype_kept,
    numerics.batch_of_one,
    numerics.absent_classes,
    margins.loss_falls,
    margins.larger_margin,
    margins.plain_at_zero,
    margins.parameters_matter,
    margins.in_radians,
    margins.logits_carry_no_margin,
    invariances.sample_order,
    invariances.class_order,
    invariances.embedding_norm,
    invariances.evaluation_is_pure,
    invariances.state_round_trip,
    invariances.labels_are_checked,
    slow.compiles,
    slow.overfits,
)


@dataclass(frozen=True)
class Finding:
    """One property of one loss: status is pass, fail or skip; the figure says what was measured, or why not."""

    name: str
    status: str
    figure: str


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: for tensors of a few hundred numbers, waking a second one costs more than it does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check(spec: Spec, *, only: Callable[[Property], bool] = lambda prop: True) -> Iterator[Finding]:
    """Yield a finding per property, in the order of `PROPERTIES`, as they are measured.

    Args:
        spec: one loss or a mix.
        only: which properties.
    """
    subject = Subject(spec)
    for prop in PROPERTIES:
        if not only(prop):
            continue
        name = prop.name
        try:
            with nullcontext() if prop.slow else one_thread():
                figure = prop.measure(subject)
            yield Finding(name, "pass", figure)
        except Broken as broken:
            yield Finding(name, "fail", str(broken))
        except Skipped as reason:
            yield Finding(name, "skip", str(reason))
        except (Exception, SystemExit) as error:  # whatever a plugin raises is what this line is for
            yield Finding(name, "fail", f"raises {described(error)}")
