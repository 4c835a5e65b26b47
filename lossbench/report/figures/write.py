"""All figures of a report in reading order, each written as SVG and PNG."""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl

from lossbench.report.face_images import FaceImages
from lossbench.report.figures.angles import angles
from lossbench.report.figures.faces import faces
from lossbench.report.figures.look import Drawn, style
from lossbench.report.figures.query_map import query_map
from lossbench.report.figures.ranks import ranks
from lossbench.report.figures.rates import tpr_fpr
from lossbench.report.figures.similarities import similarities
from lossbench.report.figures.sphere import sphere
from lossbench.report.figures.tradeoff import tradeoff
from lossbench.report.figures.training import training_curves
from lossbench.report.theme import DPI
from lossbench.results.arrays import without_embeddings
from lossbench.results.study import Study
from lossbench.results.verdicts import Verdict
from lossbench.utils.files import write_bytes


class Figure(NamedTuple):
    """One figure: the stem of its files, what draws it, and whether it needs embeddings of unseen people.

    `draw` returns None where the study has nothing to show there.
    """

    stem: str
    draw: Callable[[Study, Sequence[Verdict]], Drawn | None]
    of_unseen: bool = False


FIGURES: tuple[Figure, ...] = (
    Figure("tpr_fpr", tpr_fpr, of_unseen=True),
    Figure("ranks", ranks),
    Figure("accuracy_id_rate", tradeoff),
    Figure("similarities", similarities, of_unseen=True),
    Figure("training_curves", training_curves),
    Figure("angles", angles),
    Figure("query_map", query_map, of_unseen=True),
    Figure("sphere", sphere, of_unseen=True),
)


def write_figures(
    study: Study,
    found: Sequence[Verdict],
    folder: Path,
    images: FaceImages | None = None,
    on_figure: Callable[[], None] = lambda: None,
) -> list[tuple[str, str]]:
    """Draw every figure as SVG and PNG; those of unseen people only where all runs have embeddings of them.

    Args:
        study: all runs of the report.
        found: their verdicts.
        folder: exists.
        images: the faces of two losses' disagreements; without, those that an earlier report shows are removed.
        on_figure: called after each figure, drawn or not.

    Returns:
        File stem and caption of each figure, in reading order.

    Raises:
        InputError: a run's embeddings or history are damaged.
        OSError: the disk is full or the folder cannot be written; each figure is then complete or unchanged.
    """
    nobody_unseen = not all(record["people"]["query"] for record in study.finished)
    recorded_alone = not study.finished or nobody_unseen or bool(without_embeddings(study.finished))
    written = []
    shown = [] if images is None else [Figure("faces", lambda study, found: faces(images))]
    with mpl.rc_context(style()), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a name in letters that the PNG's font lacks
        for stem, draw, of_unseen in (*FIGURES, *shown):
            if of_unseen and recorded_alone:
                pass  # what an earlier report drew stays: the embeddings may be elsewhere
            elif (drawn := draw(study, found)) is None:
                _remove(folder, stem)
            else:
                _write(drawn, folder, stem)
                written.append((stem, drawn.caption))
            on_figure()
    if images is None:
        _remove(folder, "faces")
    return written


def _write(drawn: Drawn, folder: Path, stem: str) -> None:
    drawn.drawing.draw_without_rendering()
    drawn.drawing.set_layout_engine("none")  # laid out once, for both files
    for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        whole = io.BytesIO()  # on a full disk the figure of the previous report must survive
        drawn.drawing.savefig(whole, format=kind, dpi=DPI, metadata=metadata)
        write_bytes(folder / f"{stem}.{kind}", whole.getbuffer())


def _remove(folder: Path, stem: str) -> None:
    """Remove a figure that an earlier report drew."""
    for kind in ("svg", "png"):
        (folder / f"{stem}.{kind}").unlink(missing_ok=True)
