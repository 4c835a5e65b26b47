"""A property of a head: a function that measures it, and how it reports that the property does not hold."""

from collections.abc import Callable
from dataclasses import dataclass

from lossbench.conformance.probe import Subject

Measurement = Callable[[Subject], str]


class Broken(Exception):
    """A property does not hold; the message is the figure, and names the likely mistake."""


class Skipped(Exception):
    """A property does not apply to this loss, or cannot be measured on this machine; the message says why."""


@dataclass(frozen=True)
class Property:
    """A property by name. `measure` returns the figure that was measured, or raises `Broken` or `Skipped`.

    `slow` marks what takes seconds rather than milliseconds.
    """

    name: str
    measure: Measurement
    slow: bool = False


def named(name: str, *, slow: bool = False) -> Callable[[Measurement], Property]:
    """Turn a function into a `Property` of this name."""
    return lambda function: Property(name, function, slow)
