"""The commands, thin: parse, call, exit code. Nothing here imports torch before a command needs it."""

import io
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lossbench.cli import data, losses, models
from lossbench.errors import InputError, NobodyListens, stopped

if TYPE_CHECKING:
    from lossbench.config import Config

# typer names this one class of usage errors publicly; its base is the class of them all.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]

_STOPPED = 130  # what shells call a process that Ctrl-C ended

app = typer.Typer(
    name="lossbench",
    help="Which loss should I train my face-recognition network with?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's help costs more time than everything else at start-up
    context_settings={"help_option_names": ["-h", "--help"]},
)


app.add_typer(data.app, name="data")


def main() -> None:
    """Run the command line. Bad input ends in one line and exit code 2; Ctrl-C in exit code 130."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a name that the terminal cannot show is no reason to fail
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        raise _end(2, str(error)) from None
    except _UsageError as error:
        raise _end(2, f"{_message(error)} (lossbench --help shows what there is)") from None
    except (KeyboardInterrupt, typer.Abort):
        code = _STOPPED
    except (NobodyListens, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains as it ends
        raise SystemExit(1) from None
    if code == _STOPPED:  # typer turns Ctrl-C into this code
        raise _end(_STOPPED, stopped(sys.argv[1:]))
    raise SystemExit(code if isinstance(code, int) else 0)


def _end(code: int, message: str) -> SystemExit:
    from lossbench.cli import console

    console.error(message)
    return SystemExit(code)


def _message(error: Exception) -> str:
    return str(error.format_message()) if hasattr(error, "format_message") else str(error)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from lossbench.cli import console
        from lossbench.utils.machine import lossbench_version

        console.say(f"lossbench {lossbench_version()}")
        raise typer.Exit


@app.command()
def run(
    losses: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated specs: ce,arcface:margin=0.3,./my_loss.py", show_default="ce,arcface,cosface"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="orl, or a folder with train/ val/ test/ query/ distractors/.", show_default="orl"),
    ] = None,
    identities: Annotated[
        int | None, typer.Option(help="Only the N people with the most training images.", show_default="all")
    ] = None,
    min_images: Annotated[
        int | None, typer.Option(help="Only people with at least M training images.", show_default="all")
    ] = None,
    images_per_identity: Annotated[
        int | None, typer.Option(help="At most K training images of a person.", show_default="all")
    ] = None,
    pairs: Annotated[
        str | None,
        typer.Option(help="Also verify these pairs: a pairs.txt as LFW's, or a folder from data prepare bin."),
    ] = None,
    flip: Annotated[
        bool | None, typer.Option("--flip", help="Verify with the mirrored embedding added.", show_default=False)
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="tiny, small, a torchvision name, timm:NAME.", show_default="tiny on orl, else small"),
    ] = None,
    pretrained: Annotated[
        str | None, typer.Option(help="imagenet, for torchvision and timm backbones.", show_default="none")
    ] = None,
    embedding_dim: Annotated[
        int | None, typer.Option(help="Length of an embedding.", show_default="128; 512 for torchvision")
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(help="Side of the images, in pixels.", show_default="64; 112 for torchvision")
    ] = None,
    dropout: Annotated[
        float | None, typer.Option(help="Dropout before the embedding layer.", show_default="0.2")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Trainings of every entrant, each with another seed and fold.", show_default="3")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the training images.", show_default="60 on orl, else 30")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images per step.", show_default="32 on orl, else 64")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate of AdamW.", show_default="0.003; 0.001 for torchvision")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="Of AdamW, for weights of two and more dimensions.", show_default="0.0005")
    ] = None,
    warmup: Annotated[
        float | None, typer.Option(help="Share of the steps in which the learning rate rises.", show_default="0.1")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Decides every random draw.", show_default="0")] = None,
    select: Annotated[
        str | None, typer.Option(help="Which epoch is reported: last, or val for the best on val.", show_default="last")
    ] = None,
    track: Annotated[
        bool | None,
        typer.Option(
            "--track",
            help="Measure test and query after every epoch, for the report alone: what picking an epoch by them hides.",
            show_default=False,
        ),
    ] = None,
    deconfound: Annotated[
        bool | None,
        typer.Option(
            "--deconfound",
            help="Also train every margin loss at margin 0 with its own scale, and ce: margin and scale told apart.",
            show_default=False,
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.", show_default="auto")] = None,
    out: Annotated[
        str | None, typer.Option(help="Where results go, in a folder named after the data.", show_default="results")
    ] = None,
    plugins: Annotated[list[str] | None, typer.Option(help="A folder of further loss plugins; repeatable.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Runs at a time, each in a process.", show_default="1")] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            help="Of each run. Other threads round sums otherwise, which training amplifies: those are other runs.",
            show_default="cores / jobs",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a TOML file; options given here win.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Train everything again, from the start.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Train again what has failed.")] = False,
    no_verify: Annotated[
        bool, typer.Option("--no-verify", help="Do not compare the data's files with its split.json.")
    ] = False,
) -> None:
    """Train every loss on the same backbone, split and images; print the comparison."""
    given = {name: value for name, value in locals().items() if value is not None}
    for name in ("config", "force", "retry_failed", "no_verify"):
        given.pop(name, None)
    given["plugins"] = tuple(given["plugins"]) if given.get("plugins") else None
    from lossbench.config import Config, read_config

    settings: dict[str, Any] = read_config(config) if config else {}
    settings |= {name: value for name, value in given.items() if value is not None}
    _run(Config(**settings), force=force, retry_failed=retry_failed, verify=not no_verify)


def _run(config: "Config", **options: bool) -> None:
    from lossbench.cli import console
    from lossbench.losses.registry import find_plugins
    from lossbench.losses.spec import parse_losses

    parse_losses(config.losses, find_plugins(config.plugins))  # a typing error is said before torch is imported
    config.resolved()

    from lossbench.benchmark.driver import run_benchmark
    from lossbench.cli.progress import BenchProgress
    from lossbench.report.markdown import verified
    from lossbench.report.sections import negatives_line
    from lossbench.report.tables import failures, text_table
    from lossbench.results.metric_fields import HEADLINE, SPEED
    from lossbench.results.study import Study

    with BenchProgress(config.repeats) as progress:
        folder, records = run_benchmark(config, progress, **options)
    study = Study.of(records)
    headers, rows = text_table(study, (*HEADLINE, *SPEED))
    repeated = f"mean ± 95 % interval over {config.repeats} repeats and their people"
    title = f"{config.benchmark}: {repeated if config.repeats > 1 else 'one repeat, which has no interval'}"
    console.table(headers, rows, title=title)
    console.say("* accuracy by nearest class mean of the training embeddings: this row has no class scores")
    if figures := verified(study):
        console.table(*text_table(study, figures), title=f"verification pairs of {config.pairs}")
    for line in filter(None, [negatives_line(study), *failures(records)]):
        console.say(line)
    console.say(f"records in {folder}; write the comparison with: lossbench report {folder}")
    if all(record["status"] == "failed" for record in records if record["entrant"] != "untrained"):
        raise typer.Exit(1)


@app.command("report")
def report_(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A benchmark's folder, such as results/orl.", show_default="the latest in results/"),
    ] = None,
) -> None:
    """Write report.md, tables as CSV and figures as SVG and PNG into a benchmark's folder."""
    from lossbench.cli import console
    from lossbench.report.write import latest_benchmark, write_report

    for path in write_report(folder or latest_benchmark(Path("results")), on_progress=console.say):
        console.say(f"wrote {path}")


class Kind(StrEnum):
    """What `lossbench list` can list."""

    losses = "losses"
    backbones = "backbones"
    data = "data"


@app.command("list")
def list_(
    what: Annotated[Kind | None, typer.Argument(help="Only this.", show_default="all")] = None,
    plugins: Annotated[list[str] | None, typer.Option(help="A folder of further loss plugins; repeatable.")] = None,
    pml: Annotated[bool, typer.Option("--pml", help="The losses of pytorch-metric-learning too.")] = False,
) -> None:
    """Show losses with hyper-parameters, defaults and papers; backbones; data sets."""
    from lossbench.cli import console

    if what in (None, Kind.losses):
        from lossbench.losses.registry import find_plugins

        losses = [
            (
                p.name,
                (p.reference, "  ".join(f"{q.name}: {q.type} = {q.default}" for q in p.parameters) or "no settings"),
            )
            for p in find_plugins(plugins or ()).values()
        ]
        console.listing("losses", losses)
    if pml:
        from lossbench.cli.losses import list_pml

        list_pml()
    if what in (None, Kind.backbones):
        from lossbench.models.backbones import BACKBONES

        backbones = [(n, (f"{i.source}; {i.image_size} px, {i.embedding_dim}-d",)) for n, i in BACKBONES.items()]
        console.listing(
            "backbones", [*backbones, ("timm:NAME", ("timm (pip install 'lossbench[timm]'); 112 px, 512-d",))]
        )
    if what in (None, Kind.data):
        from lossbench.data.catalogue import DATA

        console.listing("data", [(name, (info.what, f"credit: {info.credit}")) for name, info in DATA.items()])


models.mount(app)
losses.mount(app)
