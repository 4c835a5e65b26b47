"""report.html: one self-contained page. Its figures are images, in which no script runs; `base` says what may run."""

import base64
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from lossbench.data.catalogue import data_info
from lossbench.report.choose import choices, uncompared
from lossbench.report.disagreements import Disagreed, disagreements_part
from lossbench.report.findings import Findings
from lossbench.report.gains import scale_and_margin, selection_gap
from lossbench.report.glossary import GLOSSARY
from lossbench.report.looks import looks_part
from lossbench.report.markdown import setup_lines
from lossbench.report.markup import Part
from lossbench.report.matrix import DENSE, matrices
from lossbench.report.page.base import rendered
from lossbench.report.page.cards import cards
from lossbench.report.provenance import command, differences, fingerprints, versions
from lossbench.report.results import results
from lossbench.report.sections import (
    clusters,
    embeddings_line,
    gallery,
    geometry,
    operating_points,
    other_points_line,
    verified,
)  # fmt: skip
from lossbench.report.tables import MEANING, failures, mark, one_repeat_line, thin_line
from lossbench.report.theme import DPI
from lossbench.report.unsettled import unsettled
from lossbench.report.verdicts import verdict_text
from lossbench.results.metric_fields import shown_in
from lossbench.utils.text import listed

_LARGEST_SVG = 250_000  # bytes; a larger figure is shown as PNG, so that the page stays small


class Figure(NamedTuple):
    """A drawing of the report inside the page: its data URI and its size in pixels."""

    stem: str
    caption: str
    uri: str
    width: int
    height: int


def page(
    findings: Findings,
    drawn: Sequence[tuple[str, str]],
    apart: Disagreed | None = None,
    *,
    folder: Path,
    tables: Sequence[str] = (),
    on_card: Callable[[], None] = lambda: None,
) -> str:
    """Return the text of report.html.

    Args:
        findings: what it is made of.
        drawn: file stem and caption of each figure.
        apart: where the two best losses disagree.
        folder: where the figures are, as SVG and PNG.
        tables: file stem of each table in tables/, as CSV and as LaTeX.
        on_card: called after each loss's card is drawn.

    Raises:
        InputError: a run's history is damaged.
        OSError: a figure cannot be read.
    """
    settings, study, found, looks = findings.settings, findings.study, findings.verdicts, findings.looks
    links = {name: f"#loss-{place}" for place, name in enumerate(study.entrants)}
    headline = shown_in("headline", fprs=study.fprs)
    verdict_headers, verdict_rows = verdict_text(found, study.records)
    compared = [v for v in found if v.difference.count > 1]
    return rendered(
        "page.html",
        links,
        provisional=findings.provisional,
        data=study.records[0]["data"],
        trained=study.trained,
        answer=findings.answer,
        meaning=MEANING,
        setup=setup_lines(settings, study),
        choices=choices(study, found),
        uncompared=uncompared(study, found),
        unsettled=unsettled(found),
        titles={figure.key: figure.title for figure in dict.fromkeys(v.figure for v in found)},
        results=results(study, found),
        one_repeat=one_repeat_line(study),
        results_notes=[*filter(None, [thin_line(headline, study.records), other_points_line(study)])],
        failures=failures(study.records),
        embeddings=embeddings_line(study.records),
        matrices=[(m, mark(m.figure, study.records)) for m in matrices(found)],
        dense=DENSE,
        separable=sum(v.ahead is not None for v in compared),
        compared=len(compared),
        kinds={cell.kind for m in matrices(found) for row in m.rows for cell in row},
        level=found[0].level if found else None,
        smallest=found[0].smallest if found else None,
        looked=looks is not None,
        verdicts=Part("Every verdict", (), verdict_headers, verdict_rows),
        stems=[stem for stem, _ in drawn],
        figures=[_figure(folder, stem, caption) for stem, caption in drawn],
        cards=cards(study, on_card),
        audit=operating_points(study),
        more=[
            *filter(
                None, [gallery(study), clusters(study), verified(study), geometry(study), disagreements_part(apart)]
            )
        ],
        causes=[*filter(None, [looks_part(looks, study), scale_and_margin(study), selection_gap(study)])],
        differences=differences(study),
        command=command(settings),
        fingerprints=fingerprints(study.records),
        versions=versions(settings, study.records),
        tables=tables,
        left_out=findings.left_out,
        credit="" if (info := data_info(settings["data"])).is_folder else info.credit,
        glossary=GLOSSARY,
        listed=listed,
    )


def _figure(folder: Path, stem: str, caption: str) -> Figure:
    """Return a figure as it stands in the page; its size is that of its PNG, in the pixels of a page."""
    png, svg = ((folder / f"{stem}.{kind}").read_bytes() for kind in ("png", "svg"))
    width, height = (round(pixels * 96 / DPI) for pixels in struct.unpack(">II", png[16:24]))
    kind, data = ("svg+xml", svg) if len(svg) <= _LARGEST_SVG else ("png", png)
    return Figure(stem, caption, f"data:image/{kind};base64,{base64.b64encode(data).decode()}", width, height)
