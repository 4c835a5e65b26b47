"""Are two aligned crops of one person? By an exported model, with what is known of the threshold."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lossbench.data.images.decode import decode, read_bytes
from lossbench.data.images.packing import square
from lossbench.errors import InputError
from lossbench.metrics.operating_point import is_thin
from lossbench.results.model_file import ExportedModel
from lossbench.utils.text import listed, rate_text, shown

USUAL_FPR = 0.01


@dataclass(frozen=True)
class Verified:
    """What a model says of a pair of images, `sizes` as they were decoded (width, height).

    `point` is the operating point of the metadata that decides, and `same` the decision; both None where the model has
    no thresholds. `accepted` and `refused` are the rates at whose thresholds the pair is, and is not, of one person.
    """

    cosine: float
    sizes: tuple[tuple[int, int], tuple[int, int]]
    point: dict[str, Any] | None
    same: bool | None
    accepted: tuple[float, ...]
    refused: tuple[float, ...]

    @property
    def thin(self) -> bool:
        """Whether fewer than ten negatives decide the threshold."""
        return self.point is not None and is_thin(self.point["fpr"], self.point["negatives"])


def verify(model: ExportedModel, a: Path, b: Path, fpr: float | None = None) -> Verified:
    """Compare two images by a model, and decide at a false-positive rate.

    Images are prepared as in training: the centre square, resized; no face is searched for.

    Args:
        model: as `read_model` returns it.
        a: an image of an aligned face.
        b: the other.
        fpr: a rate at which the model has a threshold; if None, 0.01, or the lowest there is where that is above it.

    Raises:
        InputError: an image cannot be read, or the model has no threshold at this rate.
    """
    point = _point(model.facts, fpr)  # first: images take longer to read
    side = model.facts["model"]["image_size"]
    images = [decode(read_bytes(str(file)), str(file)) for file in (a, b)]
    pixels = torch.from_numpy(np.stack([np.asarray(square(image, side)) for image in images]))
    embeddings = model.embed(pixels.permute(0, 3, 1, 2).contiguous()).to(torch.float64)
    if not embeddings.isfinite().all():
        raise InputError("the model gives embeddings that are not finite; export the run again")
    cosine = float((embeddings[0] @ embeddings[1]).clamp(-1, 1))
    points = model.facts["operating_points"]
    return Verified(
        cosine,
        (images[0].size, images[1].size),
        point,
        None if point is None else cosine > point["threshold"],
        tuple(one["fpr"] for one in points if cosine > one["threshold"]),
        tuple(one["fpr"] for one in points if not cosine > one["threshold"]),
    )


def _point(facts: dict[str, Any], fpr: float | None) -> dict[str, Any] | None:
    points: dict[float, dict[str, Any]] = {one["fpr"]: one for one in facts["operating_points"]}
    if fpr is None:
        return points.get(USUAL_FPR) or (points[min(points)] if points else None)
    if fpr in points:
        return points[fpr]
    if not 0 < fpr < 1:
        raise InputError(f"--fpr {fpr:g} is no false-positive rate; choose one between 0 and 1")
    if not points:
        raise InputError(
            f"--fpr {fpr:g}: this model has no threshold, since its run measured no unseen people (query/, "
            "distractors/); drop --fpr to see the cosine"
        )
    known = listed([rate_text(rate) for rate in sorted(points, reverse=True)], "or")
    lowest = facts.get("lowest_fpr")
    if lowest is not None and fpr < lowest:
        raise InputError(
            f"--fpr {rate_text(fpr)} is below what the data of this run supports, {rate_text(lowest, digits=2)} (1 of "
            f"{points[min(points)]['negatives']:,} different-person pairs); choose {known}"
        )
    raise InputError(
        f"--fpr {rate_text(fpr)}: the run was not measured there; choose {known}, or run the benchmark's command again "
        f"with --fpr {rate_text(fpr)}, which only measures, and export"
    )


def reliance(found: Verified, people: dict[str, int]) -> list[str]:
    """Return sentences on how sure the threshold is: what it was set on, and how such a threshold carried over.

    Args:
        found: with a `point`.
        people: how many people each part of the data had.
    """
    point = found.point
    assert point is not None
    fpr, count = rate_text(point["fpr"]), people.get("query", 0) + people.get("distractors", 0)
    sentences = [
        f"set on {point['negatives']:,} different-person pairs of {count} people whom the model was not trained on "
        f"({shown(point['set_on'])}); the {point['deciding']:,} most similar of them decide it"
        + (", so few that a look-alike or two would move it" if found.thin else "")
    ]
    if (transfer := point.get("transfer")) is not None and transfer.get("fpr") is not None:
        times = f"{transfer['fpr'] / point['fpr']:.1f} times as many"
        sentences.append(
            f"how far one can drift: set on the training people ({shown(transfer['set_on'])}, "
            f"{transfer['negatives']:,} pairs), it let {rate_text(transfer['fpr'], digits=3)} of these pairs pass "
            f"instead of {fpr}, {times}; the threshold used here was not tested on further people"
        )
    return sentences
