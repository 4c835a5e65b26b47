"""`lossbench list`: losses, backbones and data sets, for people and as JSON. Nothing here imports torch."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Any

import typer

from lossbench.cli.options import Json
from lossbench.losses.plugin import Parameter, Plugin


class Kind(StrEnum):
    """What `lossbench list` can list."""

    losses = "losses"
    backbones = "backbones"
    data = "data"


def mount(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("list")(list_)


def list_(
    what: Annotated[Kind | None, typer.Argument(help="Only this.", show_default="all")] = None,
    plugins: Annotated[list[str] | None, typer.Option(help="A folder of further loss plugins; repeatable.")] = None,
    pml: Annotated[bool, typer.Option("--pml", help="The losses of pytorch-metric-learning too.")] = False,
    json: Json = False,
) -> None:
    """Show losses with hyper-parameters, defaults and papers; backbones; data sets.

    With --json: {losses: [{name, reference, file, hyperparameters: [{name, type, default, range}]}], backbones: [{name,
    image_size, embedding_dim, lr, dropout, source}], data: [{name, what, credit, backbone, epochs, batch_size, repeats,
    folds}]}. A default is null where a value must be given or is no constant; a range is null where none is declared.
    """
    from lossbench.cli import console
    from lossbench.losses.registry import find_plugins

    with console.document(json) as write:
        found: dict[str, list[dict[str, Any]]] = {}
        if what in (None, Kind.losses):
            losses = find_plugins(plugins or ()).values()
            console.listing("losses", [(p.name, (p.reference, *_settings(p))) for p in losses])
            found["losses"] = _as_json(losses)
        if pml:
            found["losses"] = found.get("losses", []) + _list_pml()
        if what in (None, Kind.backbones):
            found["backbones"] = _list_backbones()
        if what in (None, Kind.data):
            found["data"] = _list_data()
        write(found)


def _settings(plugin: Plugin) -> list[str]:
    """Return the lines about hyper-parameters and their ranges."""
    parameters = "  ".join(map(str, plugin.parameters)) or "no hyper-parameters"
    return [parameters, f"ranges: {plugin.ranges}"] if plugin.ranges else [parameters]


def _as_json(losses: Iterable[Plugin]) -> list[dict[str, Any]]:
    return [
        {
            "name": plugin.name,
            "reference": plugin.reference,
            "file": str(plugin.path),
            "hyperparameters": [_parameter(parameter) for parameter in plugin.parameters],
        }
        for plugin in losses
    ]


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "type": one.type,
        "default": one.default_value,
        "range": one.range.text if one.range else None,
    }


def _list_pml() -> list[dict[str, Any]]:
    """Print the losses of pytorch-metric-learning with that library's defaults, and why some are left out."""
    from lossbench.cli import console
    from lossbench.losses.pml import REFUSED, describe, names

    losses = [describe(name) for name in names()]
    entries = [(plugin.name, _settings(plugin)) for plugin in losses]
    entries += [
        (f"(pml:{name})", [f"cannot be an entrant: {why}"]) for name, why in REFUSED.items() if "base class" not in why
    ]
    console.listing("pytorch-metric-learning, with that library's defaults", entries)
    return _as_json(losses)


def _list_backbones() -> list[dict[str, Any]]:
    from lossbench.cli import console
    from lossbench.models.backbones import BACKBONES

    backbones = [(n, (f"{i.source}; {i.image_size} px, {i.embedding_dim}-d",)) for n, i in BACKBONES.items()]
    backbones += [
        ("timm:NAME", ("timm (pip install 'lossbench[timm]'); 112 px, 512-d",)),
        ("./my_net.py", ("a network of your own: lossbench new --backbone my_net",)),
    ]
    console.listing("backbones", backbones)
    return [{"name": name, **info._asdict()} for name, info in BACKBONES.items()]


def _list_data() -> list[dict[str, Any]]:
    from lossbench.cli import console
    from lossbench.data.catalogue import DATA

    console.listing("data", [(name, (info.what, f"credit: {info.credit}")) for name, info in DATA.items()])
    keys = ("what", "credit", "backbone", "epochs", "batch_size", "repeats", "folds")
    return [{"name": name, **{key: getattr(info, key) for key in keys}} for name, info in DATA.items()]
