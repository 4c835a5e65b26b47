"""Where loss plugins are found: the shipped folder, folders that a user names, and installed packages.

Plugins are described from their source text alone, so that listing names, checking a spec and ``--help`` import
nothing: not the plugin, not torch. A plugin file is executed only when a spec names it (`lossbench.losses.loading`).
"""

import os
import sys
from collections.abc import Iterable
from pathlib import Path

from lossbench.errors import InputError
from lossbench.losses.plugin import Plugin, describe


def heads(plugins: Iterable[str | Path] = ()) -> dict[str, Plugin]:
    """Return all known losses by name; `plugins` adds folders. Imports nothing.

    Raises:
        InputError: as `find_plugins`.

    Example:
        >>> print(*heads()["cosface"].parameters, sep=", ")
        margin: float = 0.35, scale: float = 64.0
    """
    return find_plugins(plugins)


def shipped_plugins() -> Path:
    """Return the folder of the plugins that come with lossbench: inside the package, or beside it in a checkout.

    Raises:
        InputError: neither is there.
    """
    package = Path(__file__).parent.parent
    for folder in (package / "plugins", package.parent / "plugins"):
        if (folder / "ce.py").is_file():
            return folder
    raise InputError(f"the shipped plugins are missing beside {package}; install lossbench again")


def find_plugins(folders: Iterable[str | Path] = ()) -> dict[str, Plugin]:
    """Return every plugin by name: shipped, of installed packages, and in `folders`, without importing any.

    Raises:
        InputError: a folder is missing, a file is no plugin, an installed package names no plugin file, or two files
            claim one name.
    """
    paths = sorted(shipped_plugins().glob("*.py")) + installed_plugins()
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputError(f"no plugin folder '{folder}'; --plugins takes a folder of .py files")
        paths += sorted(folder.glob("*.py"))
    found: dict[str, Plugin] = {}
    for path in (p for p in paths if not p.name.startswith("_")):
        plugin = describe(path)
        plugin.refuse_namesake(found.get(plugin.name))
        found[plugin.name] = plugin
    return found


def installed_plugins() -> list[Path]:
    """Return the plugin files that installed packages offer in the entry-point group ``lossbench.plugins``.

    An entry point names a module (``my_loss = "my_package.my_loss"``); its file is found without importing anything.

    Raises:
        InputError: an entry point whose module has no file.
    """
    if not _any_offered():
        return []
    from importlib.metadata import entry_points

    return sorted({_file_of(point.module, point.name) for point in entry_points(group="lossbench.plugins")})


def _any_offered() -> bool:
    """Return whether any installed package may have our entry points; importlib.metadata takes ten times as long."""
    return any(_mentions_us(metadata) for folder in sys.path for metadata in _metadata_folders(folder))


def _metadata_folders(folder: str) -> list[str]:
    """Return the packages' metadata in a folder of sys.path; none where Python's own import finds nothing either."""
    try:
        with os.scandir(folder) as entries:
            return [entry.path for entry in entries if entry.name.endswith((".dist-info", ".egg-info"))]
    except OSError:  # missing, unreadable, or a zip file
        return []


def _mentions_us(metadata: str) -> bool:
    try:
        return b"lossbench.plugins" in Path(metadata, "entry_points.txt").read_bytes()
    except OSError:  # most packages have no such file
        return False


def _file_of(module: str, entry: str) -> Path:
    """Return the file of the module that an entry point names.

    Raises:
        InputError: the module has none.
    """
    import importlib.util

    top, *rest = module.split(".")
    spec = importlib.util.find_spec(top)  # a top-level name: this imports nothing
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
