"""Writes a benchmark's report: report.html, report.md, verdicts.json, tables (CSV, LaTeX) and figures (SVG, PNG)."""

from collections.abc import Callable
from itertools import count
from pathlib import Path

from lossbench.errors import InputError
from lossbench.report.disagreements import disagreed, disagreement_table
from lossbench.report.face_images import face_images
from lossbench.report.findings import Findings, read_findings
from lossbench.report.gains import gap_table, split_table
from lossbench.report.latex.tables import latex_tables
from lossbench.report.markdown import markdown
from lossbench.report.page.page import page
from lossbench.report.sections import embeddings_line
from lossbench.report.tables import number_table
from lossbench.results.metric_fields import Place, runs_frame, shown_in, with_figures
from lossbench.results.verdict_file import FILE, write_verdicts
from lossbench.results.verdicts import rank_table, verdict_table
from lossbench.utils.files import write_text

Progress = Callable[[int, int], None]


def latest_benchmark(results: Path) -> Path:
    """Return the folder of the benchmark in `results` that was run last.

    Raises:
        InputError: there is no benchmark.
    """
    if (found := newest(results)) is None:
        raise InputError(f"no benchmark in '{results}'; start with: lossbench run")
    return found


def newest(results: Path) -> Path | None:
    """Return the folder of the benchmark in `results` that was run last; None where there is none."""
    files = sorted(results.glob("*/benchmark.toml"), key=lambda file: file.stat().st_mtime)
    return files[-1].parent if files else None


def write_report(
    folder: Path,
    *,
    faces: bool = False,
    on_note: Callable[[str], None] = lambda line: None,
    on_progress: Progress = lambda done, total: None,
) -> list[Path]:
    """Write the comparison of a benchmark's latest settings into its folder.

    Args:
        folder: a benchmark's folder, such as results/orl.
        faces: also show the faces on which two losses disagree most.
        on_note: called with a line that the user must see.
        on_progress: called with the number of figures and cards that are drawn, and that of all.

    Returns:
        The paths written: the page, the report in Markdown, the verdicts and the report's two folders.

    Raises:
        InputError: there is no such folder, no run in it, or a damaged record; the folder cannot be written; or faces
            are asked for that may not be shown or are not there.
    """
    return write_findings(folder, read_findings(folder), faces=faces, on_note=on_note, on_progress=on_progress)


def write_findings(
    folder: Path,
    findings: Findings,
    *,
    faces: bool = False,
    on_note: Callable[[str], None] = lambda line: None,
    on_progress: Progress = lambda done, total: None,
) -> list[Path]:
    """Write what a benchmark has found, as `write_report` does.

    Raises:
        InputError: as `write_report`; or the embeddings or the history of a run are damaged.
    """
    study, records, found = findings.study, findings.study.records, findings.verdicts
    apart = disagreed(study)
    images = face_images(findings.settings, apart, provisional=bool(findings.provisional)) if faces else None
    tables, figures = folder / "tables", folder / "figures"
    try:
        tables.mkdir(exist_ok=True)
        figures.mkdir(exist_ok=True)
        if line := embeddings_line(records):
            on_note(line)
        from lossbench.report.figures.write import FIGURES, write_figures

        total = len(FIGURES) + (images is not None) + len(study.entrants)
        parts = count(1)

        def on_part() -> None:
            on_progress(next(parts), total)

        on_progress(0, total)
        drawn = write_figures(
            study, found, figures, images, on_part
        )  # may fail: it comes before the tables are replaced
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
        asked_for["disagreements"] = disagreement_table(apart)
        for name, table in asked_for.items():
            for kind in ("csv", "tex"):
                (tables / f"{name}.{kind}").unlink(missing_ok=True)  # left by an earlier report
            if len(table):
                made[name] = table
        for name, table in made.items():
            write_text(tables / f"{name}.csv", table.to_csv(index=False))
        for name, text in latex_tables(findings, folder.resolve().name, apart).items():
            write_text(tables / f"{name}.tex", text)
        write_verdicts(folder, study, found)
        html = page(findings, drawn, apart, folder=figures, tables=[*made], on_card=on_part)
        write_text(folder / "report.md", markdown(findings, drawn, [*made]))
        write_text(folder / "report.html", html)
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror or error})") from error
    return [folder / "report.html", folder / "report.md", folder / FILE, tables, figures]
