"""Plugin files, of losses and of networks: read without executing them, executed once named, told by their content."""

import ast
import importlib.util
import inspect
import keyword
import re
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NoReturn

from lossbench.errors import InputError
from lossbench.utils.text import described

if TYPE_CHECKING:
    from torch import nn

_NOT_OF_A_PLUGIN = sys.stdlib_module_names | {"torch", "torchvision", "timm", "pytorch_metric_learning", "lossbench"}
_executed: dict[Path, tuple[str, ModuleType]] = {}  # digest of the source and its module, so that a file runs once


def is_plugin_file(name: str) -> bool:
    """Return whether what a user typed names a file, and not one of our own plugins."""
    return name.endswith(".py") or "/" in name


def refuse_name(name: str, what: str, *, reserved: str = "") -> None:
    """Refuse what cannot name a plugin: a name is a lower-case letter, then lower-case letters, digits and underscores.

    Args:
        name: of the file, without ``.py``.
        what: a plugin is: loss or network.
        reserved: a name that is taken.

    Raises:
        InputError: it is none, or it is reserved.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name == reserved:
        taken = f" ('{reserved}' is reserved)" if reserved else ""
        raise InputError(
            f"'{name}' cannot name a {what}; use lower-case letters, digits and _, such as my_{what}{taken}"
        )


def read_source(path: Path, option: str) -> ast.Module:
    """Return the syntax tree of a plugin file; nothing is executed.

    Args:
        path: of the file.
        option: where the user named it.

    Raises:
        InputError: no such file, or no Python.
    """
    return parsed(path, source_of(path, option))


def source_of(path: Path, option: str) -> bytes:
    """Return the text of a plugin file, which the user named in `option`.

    Raises:
        InputError: no such file, or one that cannot be read.
    """
    if not path.is_file():
        raise InputError(f"no plugin file '{path}'; a path in {option} leads to an existing .py file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"plugin {path} cannot be read: {error}") from error


def parsed(path: Path, source: bytes) -> ast.Module:
    """Return the syntax tree of a plugin file's text; nothing is executed.

    Raises:
        InputError: it is no Python.
    """
    try:
        return ast.parse(source, filename=str(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"plugin {path} cannot be read: {error}") from error


def public_classes(tree: ast.Module) -> list[ast.ClassDef]:
    """Return the public classes of a file that derive from something."""
    return [n for n in tree.body if isinstance(n, ast.ClassDef) and n.bases and not n.name.startswith("_")]


def first_paragraph(node: ast.Module | ast.ClassDef) -> str:
    """Return the first paragraph of a docstring on one line; empty where there is none."""
    return (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")


def executed(path: Path, name: str) -> ModuleType:
    """Return a plugin file as a module; it is executed once, and again after a change.

    Raises:
        InputError: it cannot be read, or it raises on import.
    """
    path = path.resolve()
    try:
        digest = _sha256(path)
    except OSError as error:
        raise InputError(f"plugin {path} cannot be read: {error.strerror}") from error
    if path not in _executed or _executed[path][0] != digest:
        _executed[path] = (digest, _execute(path, f"lossbench_plugin_{name}_{digest[:12]}"))
    return _executed[path][1]


class _FromSource(SourceFileLoader):
    """Compiles a file each time: Python knows bytecode by size and whole seconds, and an edit may change neither."""

    def path_stats(self, path: str) -> NoReturn:  # as for a file system without times
        """Say that the file's times are unknown, so that no bytecode is read or written.

        Raises:
            OSError: always.
        """
        raise OSError(path)


def _execute(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path, loader=_FromSource(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and inspect look a class's module up here
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # importing a plugin may raise anything; one failed run stops no other
        del sys.modules[name]
        raise InputError(f"plugin {path} fails on import: {described(error)}") from error
    return module


def plugin_fingerprint(module: "nn.Module") -> str:
    """Return the SHA-256 over the plugin files of a head or network, those of its parts and base classes included.

    Files of Python and of packages whose versions are recorded are left out, and lossbench's own, which the fingerprint
    of the training covers. Nothing is left of a ``pml:`` loss: its spec names it.
    """
    from hashlib import sha256  # late: --help reads plugin files, too, and it takes as long as the whole of that

    return sha256("".join(sorted(map(_sha256, plugin_files(module)))).encode()).hexdigest()


def _sha256(path: Path) -> str:
    from hashlib import sha256

    return sha256(path.read_bytes()).hexdigest()


def plugin_files(module: "nn.Module") -> set[Path]:
    """Return the files that define the classes of a head or network and belong to plugins."""
    classes = {cls for part in module.modules() for cls in type(part).__mro__ if cls.__module__ in sys.modules}
    roots = {cls: cls.__module__.partition(".")[0] for cls in classes}
    return {Path(inspect.getfile(cls)) for cls, root in roots.items() if root not in _NOT_OF_A_PLUGIN}


def write_template(name: str, folder: Path, template: str, what: str) -> Path:
    """Write ``folder/NAME.py`` and return its path; ``{title}`` in the template becomes the name of its class.

    Args:
        name: checked by `refuse_name`.
        folder: where to write.
        template: the text of the file.
        what: a plugin is: loss or network.

    Raises:
        InputError: the name is a word of Python, the file exists, or the folder cannot be written.
    """
    if keyword.iskeyword(name):
        raise InputError(f"'{name}' cannot name a {what}: it is a word of Python; choose another name")
    path = folder / f"{name}.py"
    title = "".join(word.capitalize() for word in name.split("_"))
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(template.replace("{title}", title))
    except FileExistsError:
        raise InputError(f"{path} exists already; choose another name, or remove it") from None
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror})") from error
    return path
