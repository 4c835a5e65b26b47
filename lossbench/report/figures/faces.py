"""The faces on which two losses disagree most; drawn on request alone."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure as Drawing

from lossbench.metrics.disagreement import Kind
from lossbench.report.disagreements import Case, Disagreed, counted, telling
from lossbench.report.face_images import FaceImages
from lossbench.report.figures.look import INK, WIDTH, Drawn, short_names
from lossbench.utils.text import shown

_PAIRS = 4  # of a kind, side by side
_SIDE = 112  # pixels of an image
_TITLE, _IMAGE, _TEXT = 0.34, 1.26, 0.5  # inches: the heights of a row's parts
_GAP = 0.06  # inches between the two images of a pair


def faces(images: FaceImages) -> Drawn | None:
    """Draw the clearest pairs of each kind: a row per kind, below each pair what both losses make of it.

    Raises:
        InputError: an image cannot be read.
    """
    apart = images.apart
    rows = [(kind, each_image_once(cases)[:_PAIRS]) for kind, cases in apart.cases.items() if cases]
    if not rows:
        return None
    height = (_TITLE + _IMAGE + _TEXT) * len(rows)
    drawing = Drawing(figsize=(WIDTH, height))
    for row, (kind, cases) in enumerate(rows):
        top = height - row * height / len(rows)
        called = shown(apart.called(kind))
        drawing.text(0.01, (top - 0.1) / height, called, ha="left", va="top", fontweight="bold")
        for column, case in enumerate(cases):
            _pair(drawing, WIDTH * (column + 0.5) / _PAIRS, top - _TITLE, case, apart, kind, images)
    return Drawn(
        drawing,
        f"Faces on which two losses disagree most: {apart.choice}. {counted(apart)} A row is a kind of disagreement; "
        "its pairs are those whose cosines lie furthest from both thresholds, no image twice. Below each pair stand "
        "both losses' cosines and thresholds, bold where the pair is accepted. Look for what the pairs share: pose, "
        "glasses, light, or a wrong label.",
    )


def each_image_once(cases: Sequence[Case]) -> list[Case]:
    """Return the pairs, in order, without those that show an image a second time."""
    found: list[Case] = []
    shown: set[int] = set()
    for case in cases:
        if shown.isdisjoint(case.places):
            found.append(case)
            shown.update(case.places)
    return found


def _pair(
    drawing: Drawing, middle: float, top: float, case: Case, apart: Disagreed, kind: Kind, images: FaceImages
) -> None:
    """Draw a pair below a height, on both sides of a place: both in inches."""
    width, height = drawing.get_size_inches()
    for side, place in zip((-1, 0), case.places, strict=True):
        image = images.image(place)
        image.thumbnail((_SIDE, _SIDE))
        left = middle + side * (_IMAGE - 0.2) + (side + 0.5) * _GAP
        box = left / width, (top - _IMAGE) / height, (_IMAGE - 0.2) / width, _IMAGE / height
        ax = drawing.add_axes(box)
        ax.imshow(np.asarray(image), interpolation="nearest")
        ax.set_anchor("E" if side else "W")
        ax.set_axis_off()
    short = short_names(apart.losses)
    for line, (name, cosine, cut) in enumerate(zip(apart.losses, case.cosines, apart.thresholds, strict=True)):
        accepted = kind.first_accepts == (line == 0)
        digits = telling([cosine], [cut], 2)
        said = f"{short[name]} {cosine:z.{digits}f} {'>' if accepted else '≤'} {cut:.{digits}f}"
        weight = "bold" if accepted else "normal"
        at = middle / width, (top - _IMAGE - 0.05 - 0.17 * line) / height
        drawing.text(*at, said, ha="center", va="top", fontsize=8, color=INK, fontweight=weight)
