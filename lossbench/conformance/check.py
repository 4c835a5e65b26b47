"""What every head and every backbone must satisfy: the lists of properties, and how they are measured on one.

`lossbench check` prints a line per property; the test suite measures them on all shipped losses and on planted bugs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch

from lossbench.conformance import hyperparameters, invariances, margins, network_shapes, network_state, numerics, slow
from lossbench.conformance.network import Network, network_of
from lossbench.conformance.probe import Subject, examined
from lossbench.conformance.property import Broken, Examined, Property, Skipped
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
    margins.no_jump,
    margins.larger_margin,
    margins.plain_at_zero,
    margins.in_radians,
    margins.logits_carry_no_margin,
    hyperparameters.parameters_matter,
    hyperparameters.finite_in_range,
    invariances.sample_order,
    invariances.class_order,
    invariances.embedding_norm,
    invariances.evaluation_is_pure,
    invariances.state_round_trip,
    invariances.labels_are_checked,
    slow.compiles,
    slow.overfits,
)

NETWORK_PROPERTIES: tuple[Property[Network], ...] = (
    network_shapes.has_parameters,
    network_shapes.layers_are_registered,
    network_shapes.any_length,
    network_shapes.any_size,
    network_shapes.finite,
    network_state.gradients_reach,
    network_state.modes_switch,
    network_state.evaluation_is_pure,
    network_state.images_are_independent,
    network_state.seeded,
    network_state.dropout_acts,
    network_state.state_round_trip,
    network_state.autocast,
)


@dataclass(frozen=True)
class Finding:
    """One property of one loss or network.

    `status` is pass, fail or skip; `figure` is what was measured, what is broken, or why the property was skipped.
    """

    name: str
    status: str
    figure: str


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: for tensors of a few hundred numbers, waking a second one costs more than it saves."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check(spec: Spec, *, only: Callable[[Property[Subject]], bool] = lambda prop: True) -> Iterator[Finding]:
    """Yield a finding per property, in the order of `PROPERTIES`, as they are measured; first the precision if float32.

    Args:
        spec: one loss or a mix.
        only: selects properties.
    """
    subject = examined(spec)
    if subject.single:
        yield Finding("precision", "pass", "computes in float32, whatever it is given: measured at that precision")
    yield from (measured(prop, subject) for prop in PROPERTIES if only(prop))


def check_network(backbone: str) -> Iterator[Finding]:
    """Yield a finding per property of a backbone, in the order of `NETWORK_PROPERTIES`, as they are measured.

    Args:
        backbone: a name, or a file, which is executed.

    Raises:
        InputError: no such backbone, or one that cannot be built.
    """
    network = network_of(backbone)
    yield from (measured(prop, network) for prop in NETWORK_PROPERTIES)


def measured(prop: Property[Examined], subject: Examined) -> Finding:
    """Return whether a property holds, or the error that measuring it raises."""
    try:
        with nullcontext() if prop.slow else one_thread():
            return Finding(prop.name, "pass", prop.measure(subject))
    except Broken as broken:
        return Finding(prop.name, "fail", str(broken))
    except Skipped as reason:
        return Finding(prop.name, "skip", str(reason))
    except (Exception, SystemExit) as error:  # a plugin may raise anything, and that is its finding
        return Finding(prop.name, "fail", f"raises {described(error)}")
