"""Specs: what a user types for one entrant, parsed and checked against the plugins there are.

Parsing executes nothing and imports no torch, so that a typing error is reported at once.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossbench.errors import InputError, did_you_mean
from lossbench.losses.plugin import BASELINE, REQUIRED, Parameter, Plugin, describe

ALL = "all"  #: stands for every known loss in a list of specs


@dataclass(frozen=True)
class Term:
    """One loss of a spec: the plugin, the hyper-parameters that differ from its defaults, and its weight in a mix."""

    plugin: Plugin
    values: Mapping[str, Any] = field(default_factory=dict)
    weight: float = 1.0

    def __str__(self) -> str:
        values = "".join(f":{key}={value}" for key, value in self.values.items())
        return f"{'' if self.weight == 1 else f'{self.weight:g}*'}{self.plugin.name}{values}"


@dataclass(frozen=True)
class Spec:
    """One entrant of a benchmark. ``str(spec)`` is its canonical text: two spellings of the same entrant agree."""

    terms: tuple[Term, ...]

    def __str__(self) -> str:
        return "+".join(str(term) for term in self.terms)


def spelled_out(text: str, known: Mapping[str, Plugin]) -> str:
    """Return a comma-separated list of specs with ``all`` replaced by the names of `known`, the baseline first.

    Example:
        >>> from lossbench.losses.registry import find_plugins
        >>> known = find_plugins()
        >>> spelled_out("arcface,./mine.py", known)
        'arcface,./mine.py'
        >>> spelled_out("all,arcface:margin=0.3", known).split(",")[:3]
        ['ce', 'adacos', 'adaface']
    """
    every = sorted(known, key=lambda name: name != BASELINE)
    return ",".join(",".join(every) if part.strip() == ALL else part for part in text.split(","))


def parse_losses(text: str, known: Mapping[str, Plugin]) -> list[Spec]:
    """Parse a comma-separated list of specs; `known` are the plugins by name.

    Raises:
        InputError: a bad spec, none at all, one entrant named twice, or two plugin files of one name.
    """
    specs = [parse_spec(part, known) for part in text.split(",") if part.strip()]
    if not specs:
        raise InputError(f"--losses '{text}' names no loss. Losses: {', '.join(known)}")
    plugins: dict[str, Plugin] = {}
    for term in (term for spec in specs for term in spec.terms):
        term.plugin.refuse_namesake(plugins.setdefault(term.plugin.name, term.plugin))
    seen: set[str] = set()
    for spec in specs:
        if str(spec) in seen:
            raise InputError(f"--losses names '{spec}' twice; name every entrant once")
        seen.add(str(spec))
    return specs


def parse_spec(text: str, known: Mapping[str, Plugin]) -> Spec:
    """Parse one spec: ``arcface:margin=0.3:scale=32``, ``./my_loss.py``, ``arcface+0.5*triplet``.

    `known` are the plugins by name. ``str()`` of the result omits what equals a default.

    Raises:
        InputError: no such loss or hyper-parameter (with the nearest match), or a value of the wrong type or outside
            the range that the plugin declares.
    """
    parts = re.split(r"(?<![0-9.][eE])\+", text.strip())  # the plus of 1e+3 makes no mix
    if not all(part.strip() for part in parts):
        raise InputError(f"'{text}' lacks a loss; a mix is written as in arcface+0.5*triplet")
    return Spec(tuple(_parse_term(part.strip(), known) for part in parts))


def _parse_term(text: str, known: Mapping[str, Plugin]) -> Term:
    weight, body = 1.0, text
    if weighted := re.match(r"([^*:]*)\*(.*)", text):
        weight, body = _number(weighted[1], f"the weight in '{text}'"), weighted[2]
        if weight <= 0:
            raise InputError(f"the weight {weighted[1]} in '{text}' must be above 0; leave the loss out instead")
    name, *settings = body.split(":")
    if not name.strip():
        raise InputError(f"'{text}' names no loss; write one, as in 0.5*triplet or arcface:margin=0.3")
    if name == "pml" and settings:
        name, settings = f"pml:{settings[0]}", settings[1:]
    plugin = _plugin(name, known)
    return Term(plugin, _parse_settings(settings, plugin, text), weight)


def _parse_settings(settings: Sequence[str], plugin: Plugin, text: str) -> dict[str, Any]:
    """Return the values that differ from the defaults, in the order of the plugin's signature."""
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        parameter = plugin.parameter(key)
        if parameter is None:
            hint = did_you_mean(key, [p.name for p in plugin.parameters])
            takes = ", ".join(f"{p.name}={p.default}" for p in plugin.parameters) or "no hyper-parameters"
            raise InputError(
                f"{plugin.name} has no hyper-parameter '{key}'{f'{hint} It' if hint else '; it'} takes: {takes}"
            )
        if not equals or key in values:
            raise InputError(f"'{setting}' in '{text}' must be {key}=VALUE, once")
        values[key] = _convert(value, parameter, plugin.name)
        plugin.refuse_outside(key, values[key])
    missing = [p.name for p in plugin.parameters if p.default == REQUIRED and p.name not in values]
    if missing:
        raise InputError(f"{plugin.name} needs a value for '{missing[0]}': write {plugin.name}:{missing[0]}=VALUE")
    return {p.name: values[p.name] for p in plugin.parameters if values.get(p.name) not in (None, p.default_value)}


def _plugin(name: str, known: Mapping[str, Plugin]) -> Plugin:
    if name.startswith("pml:"):
        from lossbench.losses import pml

        return pml.describe(name[4:])
    if name.endswith(".py") or "/" in name:
        plugin = describe(Path(name))
        plugin.refuse_namesake(known.get(plugin.name))
        return plugin
    if name not in known:
        raise InputError(f"no loss called '{name}'{did_you_mean(name, list(known)) or '.'} Losses: {', '.join(known)}")
    return known[name]


def _convert(text: str, parameter: Parameter, plugin: str) -> Any:
    kind = parameter.type.removesuffix(" | None").removesuffix(" (degrees)")
    what = f"{plugin}'s {parameter.name}"
    if kind == "str":
        return text
    if kind == "bool":
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise InputError(f"{what} must be true or false, not '{text}'")
    value = _number(text, what)
    if kind == "number":  # of another library, whose signatures do not say whether it must be whole
        return int(value) if value == int(value) else value
    if kind == "int":
        if value != int(value):
            raise InputError(f"{what} must be a whole number, not '{text}'")
        return int(value)
    return value


def _number(text: str, what: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise InputError(f"{what} must be a number, not '{text}'; for example 0.5") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise InputError(f"{what} must be finite, not '{text}'")
    return value
