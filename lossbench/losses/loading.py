"""Builds heads: executes the plugin files that a spec names, and tells what exactly was built."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from lossbench.errors import InputError
from lossbench.losses.head import Head, Mix
from lossbench.losses.plugin import Plugin
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import Spec, parse_spec
from lossbench.utils.text import described

_NOT_OF_A_PLUGIN = sys.stdlib_module_names | {"torch", "pytorch_metric_learning", "lossbench"}
_loaded: dict[Path, tuple[str, type[Head]]] = {}  # digest of the source and its class, so that a file runs once


def load_head(
    spec: str | Spec,
    *,
    num_classes: int,
    embedding_dim: int,
    plugins: Iterable[str | Path] = (),
    **hyperparameters: Any,
) -> Head:
    """Build the head that `spec` names, with fresh weights from torch's global generator.

    Args:
        spec: what a user types, such as ``arcface:margin=0.3``, or a parsed `Spec`.
        num_classes: C >= 1.
        embedding_dim: D >= 1.
        plugins: folders to search beside the shipped ones.
        hyperparameters: further keyword arguments for a spec of a single loss; they win over those in the spec.

    Raises:
        InputError: the spec is wrong, a hyper-parameter lies outside its declared range, or the plugin cannot be
            loaded or built.
    """
    if isinstance(spec, str):
        spec = parse_spec(spec, find_plugins(plugins))
    if hyperparameters and len(spec.terms) > 1:
        raise InputError(f"'{spec}' is a mix; put its hyper-parameters into the spec")
    for name, value in hyperparameters.items():
        spec.terms[0].plugin.refuse_outside(name, value)
    built = [
        (term.weight, _build(term.plugin, num_classes, embedding_dim, {**term.values, **hyperparameters}))
        for term in spec.terms
    ]
    return built[0][1] if len(built) == 1 and built[0][0] == 1 else Mix(*built)


def trial_head(spec: Spec) -> Head:
    """Build a small head to see whether a spec can be built and what it declares.

    Raises:
        InputError: as `load_head`.
    """
    return load_head(spec, num_classes=10, embedding_dim=8)


def _build(plugin: Plugin, num_classes: int, embedding_dim: int, values: Mapping[str, Any]) -> Head:
    cls = load_class(plugin)
    try:
        return cls(num_classes, embedding_dim, **values)
    except InputError:
        raise
    except TypeError as error:
        raise InputError(
            f"plugin {plugin.path} cannot be built: {error}; "
            "__init__ takes (num_classes, embedding_dim, *, name: type = default, ...)"
        ) from error
    except (Exception, SystemExit) as error:  # a plugin's constructor may raise anything; one failed run stops no other
        what = f"{plugin.name} with {dict(values)}" if values else plugin.name
        raise InputError(f"{what} cannot be built: {described(error)} ({plugin.path})") from error


def load_class(plugin: Plugin) -> type[Head]:
    """Execute a plugin file and return its one public `Head` subclass.

    Raises:
        InputError: the file raises on import, or defines no such class or several.
    """
    if plugin.name.startswith("pml:"):
        from lossbench.losses import pml

        return pml.head_class(plugin.name[4:])
    path = plugin.path.resolve()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if path in _loaded and _loaded[path][0] == digest:
        return _loaded[path][1]
    module = _execute(path, f"lossbench_plugin_{plugin.name}_{digest[:12]}")
    classes = [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Head) and value.__module__ == module.__name__ and name[0] != "_"
    ]
    if len(classes) != 1:
        names = ", ".join(c.__name__ for c in classes) or "none"
        raise InputError(f"plugin {plugin.path} must define exactly one public Head subclass; it defines {names}")
    _loaded[path] = (digest, classes[0])
    return classes[0]


def _execute(path: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
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


def hyperparameters(spec: Spec) -> dict[str, Any]:
    """Return every hyper-parameter of an entrant as it will be, defaults included; a mix's under ``name.parameter``."""
    resolved: dict[str, Any] = {}
    for term in spec.terms:
        prefix = f"{term.plugin.name}." if len(spec.terms) > 1 else ""
        for name, parameter in inspect.signature(load_class(term.plugin)).parameters.items():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                resolved[prefix + name] = term.values.get(name, parameter.default)
        if term.weight != 1 or len(spec.terms) > 1:
            resolved[prefix + "weight"] = term.weight
    return resolved


def plugin_fingerprint(head: Head) -> str:
    """Return the SHA-256 over the plugin files of this head, those of a mix's parts, layers and base classes included.

    Files of Python, torch and pytorch-metric-learning are left out, since their versions are recorded, and lossbench's
    own, which the fingerprint of the training covers. Nothing is left of a ``pml:`` loss: its spec names it.
    """
    digests = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in plugin_files(head))
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def plugin_files(head: Head) -> set[Path]:
    """Return the files that define this head's classes and belong to plugins."""
    classes = {cls for module in head.modules() for cls in type(module).__mro__ if cls.__module__ in sys.modules}
    roots = {cls: cls.__module__.partition(".")[0] for cls in classes}
    return {Path(inspect.getfile(cls)) for cls, root in roots.items() if root not in _NOT_OF_A_PLUGIN}
