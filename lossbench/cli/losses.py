"""The plugin author's commands: new, check and passport.

Nothing here imports torch before a command needs it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lossbench.cli.completion import complete_checked, complete_losses
from lossbench.cli.options import Json
from lossbench.errors import InputError

if TYPE_CHECKING:
    from lossbench.conformance.check import Finding

Spec = Annotated[
    str,
    typer.Argument(
        help="A loss: arcface:margin=0.3, ./my_loss.py, arcface+0.5*triplet.", autocompletion=complete_losses
    ),
]
Plugins = Annotated[list[str] | None, typer.Option(help="A folder of further loss plugins; repeatable.")]


def mount(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(new)
    app.command()(check)
    app.command()(passport)


def new(
    name: Annotated[str, typer.Argument(help="The plugin's name: lower-case letters, digits and _.")],
    backbone: Annotated[bool, typer.Option("--backbone", help="Write a network, not a loss.")] = False,
) -> None:
    """Write NAME.py, a working loss plugin or network for you to change, into the current folder."""
    from lossbench.cli import console
    from lossbench.losses.template import write_plugin
    from lossbench.models.template import write_network

    if backbone:
        path = write_network(name, Path())
        console.say(f"wrote {path}, a small residual network that works as it stands; change it, then:")
        console.say(f"  lossbench check --backbone ./{path}")
        console.say(f"  lossbench run --backbone ./{path}")
        return
    path = write_plugin(name, Path())
    console.say(f"wrote {path}, a margin loss that works as it stands; change push, then:")
    console.say(f"  lossbench check ./{path}")
    console.say(f"  lossbench run --losses ce,./{path}")


def check(
    spec: Annotated[
        str,
        typer.Argument(
            help="A loss: arcface:margin=0.3, ./my_loss.py, arcface+0.5*triplet. Or a network.",
            autocompletion=complete_checked,
        ),
    ],
    backbone: Annotated[
        bool, typer.Option("--backbone", help="It is a network: ./my_net.py, or a backbone's name.")
    ] = False,
    plugins: Plugins = None,
    fast: Annotated[bool, typer.Option("--fast", help="Skip what takes more than a second.")] = False,
    json: Json = False,
) -> None:
    """Test a loss or a network numerically before it trains: one line per property; exit code 1 if any fails.

    Among the properties: the gradient against central differences around 0, 90 and 180 degrees, finite values at
    cosines of 1 and -1 and in half precision, a margin that makes the task harder, hyper-parameters that have an
    effect, and scores without margin. Without --fast the loss is also compiled, and has to overfit 64 real faces.

    A network has to give embeddings of any length, from images of any size that it takes; evaluation must change
    nothing and treat each image on its own; gradients must reach every parameter; a seed must decide everything.

    With --json: {name, passed, failed, skipped, properties: [{name, status, figure}]}; a status is pass, fail or skip.
    """
    from lossbench.losses.registry import find_plugins
    from lossbench.losses.spec import parse_spec

    if backbone:
        if unused := ["--fast"] * fast + ["--plugins"] * bool(plugins):
            raise InputError(f"{unused[0]} is for losses, and --backbone checks a network; leave out one of the two")
        from lossbench.models.backbones import backbone_info, backbone_name

        backbone_info(spec)  # what is no network is reported before torch is imported
        from lossbench.conformance.check import check_network

        _say_findings(backbone_name(spec), check_network(spec), json=json)
        return
    parsed = parse_spec(spec, find_plugins(plugins or ()))
    from lossbench.conformance.check import check as findings

    _say_findings(str(parsed), findings(parsed, only=lambda prop: not (fast and prop.slow)), json=json)


def _say_findings(name: str, findings: "Iterable[Finding]", *, json: bool) -> None:
    from lossbench.cli import console

    counts = {"pass": 0, "fail": 0, "skip": 0}
    found: list[dict[str, str]] = []
    with console.document(json) as write:
        for finding in findings:
            console.finding(finding.status, finding.name, finding.figure)
            counts[finding.status] += 1
            found.append({"name": finding.name, "status": finding.status, "figure": finding.figure})
        passed, failed, skipped = counts.values()
        verdict = f"{failed} FAILED" if failed else "none failed"
        console.say(f"{name}: {passed} properties hold, {skipped} skipped, {verdict}")
        write({"name": name, "passed": passed, "failed": failed, "skipped": skipped, "properties": found})
    if failed:
        raise typer.Exit(1)


def passport(
    spec: Spec,
    plugins: Plugins = None,
    out: Annotated[Path, typer.Option(help="The folder for the plot and the table.")] = Path(),
) -> None:
    """Measure what a loss really does at every angle, beside CE and ArcFace: a plot, a table, and flags.

    Flagged are a margin that does not reach the gradient, a hyper-parameter without effect, a loss that does not fall
    with the own angle, and degrees taken for radians.
    """
    from lossbench.cli import console
    from lossbench.losses.registry import find_plugins
    from lossbench.losses.spec import parse_spec

    parsed = parse_spec(spec, find_plugins(plugins or ()))  # a wrong spec is reported before torch is imported
    if not out.is_dir():
        raise InputError(f"--out: no folder '{out}'; create it first")
    from lossbench.conformance.passport import measure_passport
    from lossbench.report.passport import table_rows, write_passport

    found = measure_passport(parsed)
    headers, rows = table_rows(found)
    console.table(headers, rows, title=f"{parsed}: measured with all other classes at 90 degrees")
    for flag in found.flags:
        console.say(f"flag: {flag}")
    if not found.flags:
        console.say("no flags: nothing is wrong with the gradient, the hyper-parameters, the monotonicity or the units")
    for path in write_passport(found, out):
        console.say(f"wrote {path}")
