"""A loss plugin as its source reads: name, reference, hyper-parameters and their ranges. Nothing is executed."""

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from lossbench.errors import InputError
from lossbench.losses.ranges import Range, parse_ranges
from lossbench.utils.plugin_file import first_paragraph, parsed, public_classes, refuse_name, source_of

UNTRAINED = "untrained"  # the entrant that every benchmark carries: the backbone before its first step
BASELINE = "ce"  # the loss that gains are measured over
REQUIRED = "required"  # stands where a hyper-parameter has no default
_RANGES_EXAMPLE = 'write, for example, ranges = "0 <= margin < pi, scale > 0"'


class Parameter(NamedTuple):
    """One keyword-only hyper-parameter of a plugin, as its signature reads: type name and default in source form."""

    name: str
    type: str
    default: str
    range: Range | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.type} = {self.default}"

    @property
    def default_value(self) -> Any:
        """The default as a value; None where it is missing, or an expression."""
        try:
            return ast.literal_eval(self.default)
        except ValueError:
            return None


class Plugin(NamedTuple):
    """A loss plugin, read but not executed. `name` is the file's stem, `reference` its docstring's first line."""

    name: str
    path: Path
    reference: str
    summary: str
    parameters: tuple[Parameter, ...]

    @property
    def ranges(self) -> str:
        """The ranges of all hyper-parameters that have one: ``0 <= margin < pi, scale > 0``."""
        return ", ".join(p.range.text for p in self.parameters if p.range)

    def parameter(self, name: str) -> Parameter | None:
        """Return the hyper-parameter of this name, if there is one."""
        return next((p for p in self.parameters if p.name == name), None)

    def refuse_outside(self, name: str, value: Any) -> None:
        """Refuse a value outside the range that the hyper-parameter `name` declares; None is never outside.

        Raises:
            InputError: one line with the value, the range and the default.
        """
        parameter = self.parameter(name)
        if not parameter or not parameter.range or value is None or parameter.range.accepts(value):
            return
        shown = f"{value:.12g}" if isinstance(value, int | float) else repr(value)
        default = f" (default {parameter.default_value:g})" if parameter.default_value is not None else ""
        raise InputError(f"{self.name}'s {name} is {shown}; it must be {parameter.range.rule}{default}")

    def refuse_namesake(self, other: "Plugin | None") -> None:
        """Refuse another file that claims this plugin's name.

        Raises:
            InputError: one line that names both files.
        """
        if other and other.name == self.name and other.path.resolve() != self.path.resolve():
            raise InputError(f"two plugins are called '{self.name}': {other.path} and {self.path}; rename one")


def describe(path: Path) -> Plugin:
    """Read a plugin's name, docstring, hyper-parameters and ranges from its source.

    Raises:
        InputError: not a readable Python file, not exactly one public class that derives from something, or ranges
            that make no sense.
    """
    return _described(path, source_of(path, "--losses"))


@lru_cache(maxsize=1024)  # of the text: a changed file is read anew
def _described(path: Path, source: bytes) -> Plugin:
    tree = parsed(path, source)
    refuse_name(path.stem, "loss", reserved=UNTRAINED)
    classes = public_classes(tree)
    if len(classes) != 1:
        names = ", ".join(c.name for c in classes) or "none"
        raise InputError(
            f"plugin {path} must define exactly one public Head subclass; it defines {names}{_network_hint(classes)}"
        )
    try:
        parameters = tuple(_with_ranges(list(_parameters(classes[0])), parse_ranges(_ranges_text(classes[0]))))
    except ValueError as error:
        raise InputError(f"plugin {path} has ranges that cannot be used: {error}; {_RANGES_EXAMPLE}") from error
    return Plugin(path.stem, path, first_paragraph(tree), first_paragraph(classes[0]), parameters)


def _network_hint(classes: list[ast.ClassDef]) -> str:
    is_network = any(ast.unparse(base).endswith("Module") for node in classes for base in node.bases)
    return "; a network is named with --backbone" if is_network else ""


def _parameters(node: ast.ClassDef) -> Iterator[Parameter]:
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name == "__init__":
            for arg, default in zip(member.args.kwonlyargs, member.args.kw_defaults, strict=True):
                annotation = ast.unparse(arg.annotation) if arg.annotation else "float"
                yield Parameter(arg.arg, annotation, ast.unparse(default) if default else REQUIRED)


def _ranges_text(node: ast.ClassDef) -> str:
    """Return the string that the class body assigns to `ranges`; empty where it assigns none."""
    text = ""
    for member in node.body:
        if isinstance(member, ast.Assign | ast.AnnAssign) and "ranges" in _assigned(member):
            value = member.value
            if not (isinstance(value, ast.Constant) and isinstance(value.value, str)):
                raise ValueError("they are no plain string on a line of their own")
            text = value.value
    return text


def _assigned(member: ast.Assign | ast.AnnAssign) -> set[str]:
    targets = member.targets if isinstance(member, ast.Assign) else [member.target]
    return {n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)}


def _with_ranges(parameters: list[Parameter], ranges: dict[str, Range]) -> Iterator[Parameter]:
    """Yield the parameters with their ranges.

    Raises:
        ValueError: a range of something that is no number or no hyper-parameter, or one without the default.
    """
    names = ", ".join(p.name for p in parameters) or "no hyper-parameters"
    if unknown := [name for name in ranges if name not in names.split(", ")]:
        raise ValueError(f"'{ranges[unknown[0]].text}' names none of its hyper-parameters ({names})")
    for parameter in parameters:
        declared, default = ranges.get(parameter.name), parameter.default_value
        if declared and default is not None and (isinstance(default, bool) or not declared.accepts(default)):
            raise ValueError(f"'{declared.text}' excludes the default, {parameter.default}")
        yield parameter._replace(range=declared)
