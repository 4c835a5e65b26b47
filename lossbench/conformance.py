"""What every head must satisfy: a property a line, each with the figure that was measured.

`lossbench check` prints the lines; the test suite runs them over all shipped losses, and over planted bugs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import torch

from lossbench.losses.spec import Spec
from lossbench.probe import (
    Subject,
)


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
    import lossbench.properties  # noqa: F401 - enters them into PROPERTIES

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
        except (Exception, SystemExit) as error:  # whatever a plugin raises is what this line is for
            yield Finding(
                name, "fail", f"raises {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            )
