"""Finds loss plugins and parses specs.

Plugins are described from their source text alone, so that listing names, checking a spec and ``--help`` import
nothing: not the plugin, not torch. A plugin file is executed only when a spec names it (`lossbench.building`).
"""

import ast
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from lossbench.errors import InputError, did_you_mean

UNTRAINED = "untrained"  # the entrant that every benchmark carries: the backbone before its first step
BASELINE = "ce"  # the loss that gains are measured over
_RESERVED = {UNTRAINED}
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class Parameter(NamedTuple):
    """One keyword-only hyper-parameter of a plugin, as its signature reads: type name and default in source form."""

    name: str
    type: str
    default: str


class Plugin(NamedTuple):
    """A loss plugin, read but not executed. `name` is the file's stem, `reference` its docstring's first line."""

    name: str
    path: Path
    reference: str
    summary: str
    parameters: tuple[Parameter, ...]


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


def shipped_plugins() -> Path:
    """Return the folder of the plugins that come with lossbench: inside the package, or beside it in a checkout."""
    package = Path(__file__).parent
    for folder in (package / "plugins", package.parent / "plugins"):
        if (folder / "ce.py").is_file():
            return folder
    raise InputError(f"the shipped plugins are missing beside {package}; install lossbench again")


def find_plugins(folders: Iterable[str | Path] = ()) -> dict[str, Plugin]:
    """Return every plugin by name: shipped, of installed packages, and in `folders`, without importing any.

    Raises:
        InputError: a folder is not there, an installed package names no plugin file, or two files claim one name.
    """
    paths = sorted(shipped_plugins().glob("*.py")) + installed_plugins()
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"no plugin folder '{folder}'; --plugins takes a folder of .py files")
        paths += sorted(folder.glob("*.py"))
    found: dict[str, Plugin] = {}
    for path in (p for p in paths if not p.name.startswith("_")):
        plugin = describe(path)
        if plugin.name in found and found[plugin.name].path.resolve() != path.resolve():
            raise InputError(
                f"two plugins are called '{plugin.name}': {found[plugin.name].path} and {path}; rename one"
            )
        found[plugin.name] = plugin
    return found


def installed_plugins() -> list[Path]:
    """Return the plugin files that installed packages offer in the entry-point group ``lossbench.plugins``.

    An entry point names a module (``my_loss = "my_package.my_loss"``); its file is found without importing anything.

    Raises:
        InputError: an entry point whose module has no file.
    """
    if not _offered():
        return []
    from importlib.metadata import entry_points

    return sorted({_file_of(point.module, point.name) for point in entry_points(group="lossbench.plugins")})


def _offered() -> bool:
    """Return whether any installed package may have our entry points; importlib.metadata asks ten times as long."""
    for folder in filter(os.path.isdir, sys.path):
        for entry in os.scandir(folder):
            if entry.name.endswith((".dist-info", ".egg-info")):
                listed = Path(entry.path, "entry_points.txt")
                if listed.is_file() and "lossbench.plugins" in listed.read_text(encoding="utf-8", errors="replace"):
                    return True
    return False


def _file_of(module: str, entry: str) -> Path:
    import importlib.util

    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)  # of a top-level name: this imports nothing
    if spec is not None and not rest and spec.origin and not spec.submodule_search_locations:
        return Path(spec.origin)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder, *rest).with_suffix(".py")
        if rest and path.is_file():
            return path
    raise InputError(
        f"the installed plugin '{entry}' (entry point lossbench.plugins) names '{module}', which is no module "
        "with a file of its own; reinstall or remove its package"
    )


def describe(path: Path) -> Plugin:
    """Read a plugin's name, docstring and hyper-parameters from its source.

    Raises:
        InputError: not a readable Python file, or not exactly one public class that derives from something.
    """
    if not path.is_file():
        raise InputError(f"no plugin file '{path}'; a path in --losses leads to an existing .py file")
    if not _NAME.fullmatch(path.stem) or path.stem in _RESERVED:
        raise InputError(f"'{path.name}' cannot name a loss; use lower-case letters, digits and _, not '{UNTRAINED}'")
    try:
        tree = ast.parse(path.read_bytes(), filename=str(path))
    except (SyntaxError, ValueError, OSError, RecursionError, MemoryError) as error:
        raise InputError(f"plugin {path} cannot be read: {error}") from error
    classes = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.bases and not n.name.startswith("_")]
    if len(classes) != 1:
        names = ", ".join(c.name for c in classes) or "none"
        raise InputError(f"plugin {path} must define exactly one public Head subclass; it defines {names}")
    reference = (ast.get_docstring(tree) or "").split("\n\n")[0].replace("\n", " ")
    summary = (ast.get_docstring(classes[0]) or "").split("\n\n")[0].replace("\n", " ")
    return Plugin(path.stem, path, reference, summary, tuple(_parameters(classes[0])))


def _parameters(node: ast.ClassDef) -> Iterable[Parameter]:
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            for arg, default in zip(member.args.kwonlyargs, member.args.kw_defaults, strict=True):
                annotation = ast.unparse(arg.annotation) if arg.annotation else "float"
                yield Parameter(arg.arg, annotation, ast.unparse(default) if default else "required")


def heads(plugins: Iterable[str | Path] = ()) -> dict[str, Plugin]:
    """Return the losses there are, by name; `plugins` adds folders. Imports nothing."""
    return find_plugins(plugins)


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
        from lossbench import pml

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
