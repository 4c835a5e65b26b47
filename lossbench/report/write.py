"""Writes a benchmark's report: report.html, report.md, verdicts.json, tables/*.csv, figures/*.svg and *.png."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lossbench.errors import InputError
from lossbench.report.gains import gap_table, split_table
from lossbench.report.markdown import markdown
from lossbench.report.page.page import page
from lossbench.report.sections import embeddings_line
from lossbench.report.tables import number_table
from lossbench.results.looks import looks_at
from lossbench.results.metric_fields import Place, runs_frame, shown_in, with_figures
from lossbench.results.settling import judged
from lossbench.results.store import load_records, of_benchmark
from lossbench.results.study import Study
from lossbench.results.verdict_file import FILE, write_verdicts
from lossbench.results.verdicts import SMALLEST, rank_table, verdict_table
from lossbench.utils.files import write_text

_SETTINGS: dict[str, type | tuple[type, ...]] = {  # settings in benchmark.toml that the report quotes
    **dict.fromkeys(("data", "backbone", "optimizer", "schedule", "select"), str),
    **dict.fromkeys(("image_size", "embedding_dim", "epochs", "batch_size", "seed"), int),
    "lr": (int, float),
}


def latest_benchmark(results: Path) -> Path:
    """Return the folder of the benchmark in `results` that was run last.

    Raises:
        InputError: there is no benchmark.
    """
    files = sorted(results.glob("*/benchmark.toml"), key=lambda file: file.stat().st_mtime)
    if not files:
        raise InputError(f"no benchmark in '{results}'; start with: lossbench run")
    return files[-1].parent


def write_report(folder: Path, *, on_progress: Callable[[str], None] = lambda line: None) -> list[Path]:
    """Write the comparison of a benchmark's latest settings into its folder.

    Args:
        folder: a benchmark's folder, such as results/orl.
        on_progress: called with a line of text before a slow step.

    Returns:
        The paths written: the page, the report in Markdown, the verdicts and the report's two folders.

    Raises:
        InputError: there is no such folder, no run in it, or a damaged record; or the folder cannot be written.
    """
    settings = _settings(folder)
    everything = load_records(folder)
    records = of_benchmark(everything, settings["record"])
    if not records:
        raise InputError(
            f"no finished runs with the settings of {folder / 'benchmark.toml'}; "
            f"start with: lossbench run --config {folder / 'benchmark.toml'}"
        )
    order = {name: i for i, name in enumerate(settings["record"]["entrants"])}
    records.sort(key=lambda r: (order.get(r["entrant"], len(order)), r["entrant"], r["repeat"]))
    study = Study.of(records)
    looks = looks_at(folder, records)
    found = judged(study, looks, settings["smallest_difference"])
    tables, figures = folder / "tables", folder / "figures"
    try:
        tables.mkdir(exist_ok=True)
        figures.mkdir(exist_ok=True)
        on_progress(embeddings_line(records) or "drawing the figures")
        from lossbench.report.figures.write import write_figures

        drawn = write_figures(study, found, figures)  # may fail, so it comes before the tables are replaced
        pairs: tuple[Place, ...] = ("verification",) if with_figures(records, "verification") else ()
        places: tuple[Place, ...] = ("headline", "points", *pairs, "gallery", "transfer", "retrieval", "clusters")
        everything_shown = shown_in(*places, "angles", "speed", fprs=study.fprs)
        shown = list({figure.key: figure for figure in everything_shown}.values())  # the first points stand in two
        made = {
            "summary": number_table(study, shown),
            "runs": runs_frame(records),
            "verdicts": verdict_table(found),
            "ranks": rank_table(found),
        }
        asked_for = {"scale_and_margin": split_table(study), "selection_gap": gap_table(study)}
        for name, table in asked_for.items():
            (tables / f"{name}.csv").unlink(missing_ok=True)  # left by an earlier report
            if len(table):
                made[name] = table
        for name, table in made.items():
            write_text(tables / f"{name}.csv", table.to_csv(index=False))
        sentences = write_verdicts(folder, study, found)
        told = (settings, study, sentences, found, drawn, looks)
        left_out = len(everything) - len(records)
        on_progress("writing the page, with a passport per loss")
        html = page(*told, folder=figures, left_out=left_out)
        write_text(folder / "report.md", markdown(*told, left_out=left_out))
        write_text(folder / "report.html", html)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error})") from error
    return [folder / "report.html", folder / "report.md", folder / FILE, tables, figures]


def _settings(folder: Path) -> dict[str, Any]:
    path = folder / "benchmark.toml"
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
        settings["record"]["protocol"], settings["record"]["entrants"], settings["record"]["lossbench"]
        settings = {"optimizer": "adamw", "schedule": "cosine"} | settings  # older files have none, and no others
        for name, kind in _SETTINGS.items():
            if not isinstance(settings[name], kind):
                raise TypeError(f"{name} is {settings[name]!r}")
        smallest = settings.setdefault("smallest_difference", SMALLEST)  # older files have none
        if not (isinstance(smallest, int | float) and 0 < smallest < 1):
            raise TypeError(f"smallest_difference is {smallest!r}")
        if not isinstance(settings["record"]["lossbench"], str):
            raise TypeError("record.lossbench is not a string")
        if not all(isinstance(name, str) for name in settings["record"]["entrants"]):
            raise TypeError("record.entrants are not all strings")
    except FileNotFoundError:
        below = sorted(str(file.parent) for file in folder.glob("*/benchmark.toml"))
        cure = f"name one of {', '.join(below)}" if below else "lossbench report takes a folder such as results/orl"
        raise InputError(f"'{folder}' is not a benchmark's folder; {cure}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read ({error}); run the benchmark again to rewrite it") from error
    return settings
