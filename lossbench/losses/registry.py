"""Finds loss plugins and parses specs.

Plugins are described from their source text alone, so that listing names, checking a spec and ``--help`` import
nothing: not the plugin, not torch. A plugin file is executed only when a spec names it (`lossbench.losses.loading`).
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from lossbench.errors import InputError
from lossbench.losses.plugin import Plugin, describe


def shipped_plugins() -> Path:
    """Return the folder of the plugins that come with lossbench: inside the package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
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


def heads(plugins: Iterable[str | Path] = ()) -> dict[str, Plugin]:
    """Return the losses there are, by name; `plugins` adds folders. Imports nothing."""
    return find_plugins(plugins)
