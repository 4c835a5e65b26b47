"""The plugin author's commands: new, check, passport. Nothing here imports torch before a command needs it."""

from pathlib import Path
from typing import Annotated

import typer

from lossbench.errors import InputError


def mount(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(new)
    app.command()(check)
    app.command()(passport)


def new(name: Annotated[str, typer.Argument(help="Of the loss: lower-case letters, digits and _.")]) -> None:
    """Write NAME.py, a working loss plugin to be changed, into this folder."""
    from lossbench.cli import console
    from lossbench.losses.template import write_plugin

    path = write_plugin(name, Path())
    console.say(f"wrote {path}, a margin loss that works as it stands; change push, then:")
    console.say(f"  lossbench check ./{path}")
    console.say(f"  lossbench run --losses ce,./{path}")


def check(
    spec: Annotated[str, typer.Argument(help="A loss: arcface:margin=0.3, ./my_loss.py, arcface+0.5*triplet.")],
    plugins: Annotated[list[str] | None, typer.Option(help="A folder of further loss plugins; repeatable.")] = None,
    fast: Annotated[bool, typer.Option("--fast", help="Leave out what takes more than a second.")] = False,
) -> None:
    """Test a loss numerically before it trains: a line per property, exit code 1 where one fails."""
    from lossbench.cli import console
    from lossbench.losses.registry import find_plugins
    from lossbench.losses.spec import parse_spec

    parsed = parse_spec(spec, find_plugins(plugins or ()))
    from lossbench.conformance.check import check as findings

    failed = skipped = passed = 0
    for finding in findings(parsed, only=lambda prop: not (fast and prop.slow)):
        console.finding(finding.status, finding.name, finding.figure)
        failed += finding.status == "fail"
        skipped += finding.status == "skip"
        passed += finding.status == "pass"
    verdict = f"{failed} FAILED" if failed else "none failed"
    console.say(f"{parsed}: {passed} properties hold, {skipped} not asked, {verdict}")
    if failed:
        raise typer.Exit(1)


def passport(
    spec: Annotated[str, typer.Argument(help="A loss: arcface:margin=0.3, ./my_loss.py, arcface+0.5*triplet.")],
    plugins: Annotated[list[str] | None, typer.Option(help="A folder of further loss plugins; repeatable.")] = None,
    out: Annotated[Path, typer.Option(help="Where the figure and the table go.")] = Path(),
) -> None:
    """Measure what a loss really does against the angle, beside CE and ArcFace: a figure, a table, flags."""
    from lossbench.cli import console
    from lossbench.losses.registry import find_plugins
    from lossbench.losses.spec import parse_spec

    parsed = parse_spec(spec, find_plugins(plugins or ()))
    if not out.is_dir():
        raise InputError(f"--out: no folder '{out}'; make it first")
    from lossbench.conformance.passport import measure_passport
    from lossbench.report.passport import table_rows, write_passport

    found = measure_passport(parsed)
    headers, rows = table_rows(found)
    console.table(headers, rows, title=f"{parsed}: measured in a layout where all other classes are at 90 degrees")
    for flag in found.flags:
        console.say(f"flag: {flag}")
    if not found.flags:
        console.say("no flags: gradient, parameters, monotony and units are as they should be")
    for path in write_passport(found, out):
        console.say(f"wrote {path}")


def list_pml() -> None:
    """Print the losses of pytorch-metric-learning with that library's defaults, and why some are left out."""
    from lossbench.cli import console
    from lossbench.losses.pml import REFUSED, describe, names

    entries: list[tuple[str, tuple[str, ...]]] = []
    for name in names():
        parameters = describe(name).parameters
        settings = "  ".join(f"{p.name} = {p.default}{' degrees' if 'degrees' in p.type else ''}" for p in parameters)
        entries.append((f"pml:{name}", (settings or "no settings",)))
    entries += [(f"(pml:{name})", (f"no entrant: {why}",)) for name, why in REFUSED.items() if "base class" not in why]
    console.listing("pytorch-metric-learning, with that library's defaults", entries)
