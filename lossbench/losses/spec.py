"""Specs: what a user types for one entrant, parsed and checked against the plugins there are."""

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lossbench.errors import InputError, did_you_mean
from lossbench.losses.plugin import Parameter, Plugin, describe


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


def parse_losses(text: str, known: Mapping[str, Plugin]) -> list[Spec]:
    """Parse a comma-separated list of specs.

    Raises:
        InputError: a bad spec, none at all, or one entrant named twice.
    """
    specs = [parse_spec(part, known) for part in text.split(",") if part.strip()]
    if not specs:
        raise InputError(f"--losses '{text}' names no loss. Losses: {', '.join(known)}")
    seen: set[str] = set()
    paths: dict[str, Path] = {}
    for term in (term for spec in specs for term in spec.terms):
        name, path = term.plugin.name, term.plugin.path.resolve()
        if paths.setdefault(name, path) != path:
            raise InputError(f"two plugins are called '{name}': {paths[name]} and {path}; rename one")
    for spec in specs:
        if str(spec) in seen:
            raise InputError(f"--losses names '{spec}' twice; name every entrant once")
        seen.add(str(spec))
    return specs


def parse_spec(text: str, known: Mapping[str, Plugin]) -> Spec:
    """Parse one spec: ``arcface:margin=0.3:scale=32``, ``./my_loss.py``, ``arcface+0.5*triplet``.

    Raises:
        InputError: no such loss, no such hyper-parameter, or a value of the wrong type; each with the nearest match.
    """
    parts = re.split(r"(?<![0-9.][eE])\+", text.strip())  # the plus of 1e+3 is no mix
    return Spec(tuple(_parse_term(part.strip(), known) for part in parts))


def _parse_term(text: str, known: Mapping[str, Plugin]) -> Term:
    weight, body = 1.0, text
    if weighted := re.match(r"([^*:]*)\*(.*)", text):
        weight, body = _number(weighted[1], "the weight in", text), weighted[2]
        if weight <= 0:
            raise InputError(f"the weight {weighted[1]} in '{text}' is not positive; drop the loss instead")
    name, *settings = body.split(":")
    if name == "pml" and settings:
        name, settings = f"pml:{settings[0]}", settings[1:]
    plugin = _plugin(name, known)
    parameters = {p.name: p for p in plugin.parameters}
    values: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if key not in parameters:
            hint = did_you_mean(key, list(parameters))
            takes = ", ".join(f"{p.name}={p.default}" for p in plugin.parameters) or "no hyper-parameters"
            raise InputError(
                f"{plugin.name} has no hyper-parameter '{key}'{hint} It takes: {takes}".replace("' It", "'; it")
            )
        if not equals or key in values:
            raise InputError(f"'{setting}' in '{text}' should be {key}=VALUE, once")
        values[key] = _convert(value, parameters[key], plugin.name)
    changed = {p.name: values[p.name] for p in plugin.parameters if p.name in values and not _is_default(values, p)}
    missing = [p.name for p in plugin.parameters if p.default == "required" and p.name not in values]
    if missing:
        raise InputError(f"{plugin.name} needs a value for '{missing[0]}': write {plugin.name}:{missing[0]}=VALUE")
    return Term(plugin, changed, weight)


def _plugin(name: str, known: Mapping[str, Plugin]) -> Plugin:
    if name.startswith("pml:"):
        from lossbench.losses import pml

        return pml.describe(name[4:])
    if name.endswith(".py") or "/" in name:
        plugin = describe(Path(name))
        other = known.get(plugin.name)
        if other and other.path.resolve() != plugin.path.resolve():
            raise InputError(f"two plugins are called '{plugin.name}': {other.path} and {plugin.path}; rename one")
        return plugin
    if name not in known:
        raise InputError(f"no loss called '{name}'{did_you_mean(name, list(known)) or '.'} Losses: {', '.join(known)}")
    return known[name]


def _is_default(values: Mapping[str, Any], parameter: Parameter) -> bool:
    try:
        return bool(ast.literal_eval(parameter.default) == values[parameter.name])
    except ValueError:  # a default that is an expression: keep what was typed
        return False


def _convert(text: str, parameter: Parameter, plugin: str) -> Any:
    kind = parameter.type.removesuffix(" | None").removesuffix(" (degrees)")
    what = f"{plugin}'s {parameter.name}"
    if kind == "str":
        return text
    if kind == "bool":
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise InputError(f"{what} is true or false, not '{text}'")
    value = _number(text, what, text)
    if kind == "number":  # another library's: it may want a whole number, or not
        return int(value) if value == int(value) else value
    if kind == "int":
        if value != int(value):
            raise InputError(f"{what} is a whole number, not '{text}'")
        return int(value)
    return value


def _number(text: str, what: str, whole: str) -> float:
    try:
        value = float(text)
    except ValueError:
        where = f" '{whole}'" if whole != text else ""
        raise InputError(f"{what}{where} is a number, not '{text}'; for example 0.5") from None
    if value != value or value in (float("inf"), float("-inf")):
        raise InputError(f"{what} must be finite, not '{text}'")
    return value
