"""Builds heads: executes the plugin files that a spec names, and tells what exactly was built."""

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lossbench.errors import InputError
from lossbench.losses.head import Head, Mix
from lossbench.losses.plugin import Plugin
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import Spec, parse_spec
from lossbench.utils.plugin_file import executed
from lossbench.utils.text import described


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

    Example:
        >>> import lossbench, torch
        >>> head = lossbench.load_head("arcface:margin=0.3", num_classes=10, embedding_dim=8)
        >>> head.margin, head.scale
        (0.3, 64.0)
        >>> head(torch.randn(4, 8), torch.arange(4)).shape  # the loss
        torch.Size([])
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
    module = executed(plugin.path, plugin.name)
    classes = [
        value
        for name, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, Head) and value.__module__ == module.__name__ and name[0] != "_"
    ]
    if len(classes) != 1:
        names = ", ".join(c.__name__ for c in classes) or "none; a network is named with --backbone"
        raise InputError(f"plugin {plugin.path} must define exactly one public Head subclass; it defines {names}")
    return classes[0]


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
