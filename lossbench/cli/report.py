"""`lossbench report`: a benchmark's write-up. Nothing here imports torch before the command needs it."""

from pathlib import Path
from typing import Annotated

import typer

from lossbench.cli.options import speaks


def mount(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("report")(speaks(report_))


def report_(
    folder: Annotated[
        Path | None,
        typer.Argument(help="A benchmark's folder, such as results/orl.", show_default="the latest in results/"),
    ] = None,
) -> None:
    """Write a benchmark's report into its folder.

    report.html is the whole report on one page, which opens offline. Beside it: report.md, verdicts.json, tables as
    CSV and as LaTeX, figures as SVG and PNG.
    """
    from lossbench.cli import console
    from lossbench.report.write import latest_benchmark, write_report

    for path in write_report(folder or latest_benchmark(Path("results")), on_progress=console.step):
        console.step(f"wrote {path}")
