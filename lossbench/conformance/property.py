"""A property of a head or a network: a function that measures it, and how it says that the property does not hold."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

Examined = TypeVar("Examined")  # probe.Subject for a head, network.Network for a backbone


class Broken(Exception):
    """A property does not hold; the message is the figure, and names the likely mistake."""


class Skipped(Exception):
    """A property does not apply here, or cannot be measured on this machine; the message says why."""


@dataclass(frozen=True)
class Property(Generic[Examined]):
    """A property by name. `measure` returns the figure that was measured, or raises `Broken` or `Skipped`.

    `slow` marks what takes seconds rather than milliseconds.
    """

    name: str
    measure: Callable[[Examined], str]
    slow: bool = False


def named(name: str, *, slow: bool = False) -> Callable[[Callable[[Examined], str]], Property[Examined]]:
    """Turn a function into a `Property` of this name."""
    return lambda function: Property(name, function, slow)
