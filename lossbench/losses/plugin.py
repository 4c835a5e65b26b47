"""A loss plugin as its source reads: name, reference, hyper-parameters. Nothing is executed."""

import ast
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from lossbench.errors import InputError

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
