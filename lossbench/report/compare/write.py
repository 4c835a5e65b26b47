"""Writes a comparison of benchmarks: compare.html, compare.md, and both tables as CSV and LaTeX."""

from collections.abc import Sequence
from pathlib import Path

from lossbench.errors import InputError
from lossbench.report.compare.changes import sentences
from lossbench.report.compare.comparison import Comparison, read_comparison
from lossbench.report.compare.differences import differences_part
from lossbench.report.compare.tables import (
    change_part,
    figure_frame,
    figure_parts,
    figure_tex,
    verdict_frame,
    verdict_tex,
)
from lossbench.report.latex.tables import label_of
from lossbench.report.markup import paragraph, part_lines, plain
from lossbench.report.page.base import rendered
from lossbench.report.tables import MEANING, thin_line
from lossbench.utils.files import write_text
from lossbench.utils.text import file_name, listed

_MOST = 40  # rows of verdicts in compare.md; the CSV has all


def write_comparison(folders: Sequence[Path], out: Path | None = None) -> list[Path]:
    """Write what benchmarks share side by side, and which verdicts change between them.

    Args:
        folders: of the benchmarks, two or more.
        out: the folder to write into; beside the first benchmark where None: results/compare-a-b.

    Returns:
        The paths written.

    Raises:
        InputError: the benchmarks cannot be compared, `out` is a benchmark's folder, or it cannot be written.
    """
    comparison = read_comparison(folders)
    name = file_name(f"compare-{'-'.join(comparison.labels)}")
    first = folders[0] if folders[0].name not in ("", "..") else folders[0].resolve()
    out = out or first.parent / name
    if (out / "benchmark.toml").exists():
        raise InputError(f"--out: '{out}' is a benchmark's folder; choose another place")
    texts = {
        "compare.html": comparison_page(comparison),
        "compare.md": comparison_markdown(comparison),
        "figures.csv": figure_frame(comparison).to_csv(index=False),
        "figures.tex": figure_tex(comparison, label_of(name, "figures")),
        "verdicts.csv": verdict_frame(comparison).to_csv(index=False),
        "verdicts.tex": verdict_tex(comparison, label_of(name, "verdicts")),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for file, text in texts.items():
            write_text(out / file, text)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"--out: '{out}' cannot be written ({reason}); choose another place") from error
    return [out / file for file in texts]


def comparison_page(comparison: Comparison) -> str:
    """Return the text of compare.html."""
    return rendered(
        "compare.html",
        {},
        terms=False,
        title=_title(comparison),
        answer=sentences(comparison),
        meaning=MEANING,
        how=_HOW,
        thin=_thin(comparison),
        differences=differences_part(comparison),
        figures=figure_parts(comparison),
        changes=change_part(comparison),
    )


def comparison_markdown(comparison: Comparison) -> str:
    """Return the text of compare.md."""
    changes = change_part(comparison)
    if len(changes.rows) > _MOST:
        left = f"{len(changes.rows) - _MOST} more are in verdicts.csv."
        changes = changes._replace(rows=changes.rows[:_MOST], notes=(left,))
    lines = [
        f"# {plain(_title(comparison))}",
        "",
        *(f"- {plain(sentence)}" for sentence in sentences(comparison)),
        "",
        *part_lines(differences_part(comparison)),
        "## Figures side by side",
        "",
        *paragraph(_HOW),
        *paragraph(f"{MEANING}."),
        *(line.replace("## ", "### ", 1) for part in figure_parts(comparison) for line in part_lines(part)),
        *paragraph(_thin(comparison)),
        *part_lines(changes),
        "[compare.html](compare.html) is the same on one page. All numbers: [figures.csv](figures.csv), "
        "[verdicts.csv](verdicts.csv); for papers [figures.tex](figures.tex), [verdicts.tex](verdicts.tex).",
        "",
    ]
    return "\n".join(lines)


_HOW = (
    "Mean over the repeats ± half-width of the 95 % interval. A rank is 1 plus the number of losses ahead, among those "
    "compared; = where it is shared; a dash: no verdict."
)


def _title(comparison: Comparison) -> str:
    return f"{listed(comparison.labels)} compared"


def _thin(comparison: Comparison) -> str:
    return thin_line(comparison.figures, comparison.everything.records)
