"""`lossbench report`: a benchmark's write-up, and several side by side. No torch is imported before it is needed."""

from pathlib import Path
from typing import Annotated

import typer

from lossbench.cli.options import speaks
from lossbench.errors import InputError


def mount(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("report")(speaks(report_))


def report_(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[FOLDER]...",
            help="A benchmark's folder, such as results/orl; two or more with --compare.",
            show_default="the latest in results/",
        ),
    ] = None,
    compare: Annotated[
        bool,
        typer.Option("--compare", help="Put benchmarks side by side, into a folder of its own: which verdicts change."),
    ] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Redraw the report as runs finish, until the last one is done; Ctrl-C stops it."),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="With --compare: the folder to write into.", show_default="compare-A-B beside the first benchmark"
        ),
    ] = None,
    faces: Annotated[
        bool,
        typer.Option(
            "--faces",
            help="Also show the faces on which two losses disagree most: for data that allows it, as orl does.",
        ),
    ] = False,
) -> None:
    """Write a benchmark's report into its folder.

    report.html is the whole report on one page, which opens offline. Beside it: report.md, verdicts.json, tables as
    CSV and as LaTeX, figures as SVG and PNG.

    With --watch, which may start before the benchmark, report.html says how many runs are done and reloads by itself.
    """
    from lossbench.cli import console

    folders = folders or []
    if compare:
        if faces or watch:
            option = "--faces" if faces else "--watch"
            raise InputError(f"{option} belongs to the report of one benchmark; leave it out with --compare")
        from lossbench.report.compare.write import write_comparison

        _say_written(write_comparison(folders, out))
        return
    if out is not None:
        raise InputError("--out belongs to --compare; a report is written into its benchmark's folder")
    if len(folders) > 1:
        named = " ".join(map(str, folders))
        raise InputError(f"report takes one folder, not {len(folders)}; side by side: --compare {named}")
    folder, results = folders[0] if folders else None, Path("results")
    if watch:
        _watch(folder, results, faces=faces)
        return
    from lossbench.report.write import latest_benchmark, write_report

    at = folder or latest_benchmark(results)
    with console.counting("figures and cards drawn") as on_progress:
        written = write_report(at, faces=faces, on_note=console.step, on_progress=on_progress)
    _say_written(written)


def _watch(folder: Path | None, results: Path, *, faces: bool) -> None:
    from lossbench.cli import console
    from lossbench.report.watch import watch

    try:
        _say_written(watch(folder, results, console.step, faces=faces))
    except KeyboardInterrupt:
        console.step("stopped; the report stays as it was drawn last")


def _say_written(paths: list[Path]) -> None:
    from lossbench.cli import console

    for path in paths:
        console.step(f"wrote {path}")
