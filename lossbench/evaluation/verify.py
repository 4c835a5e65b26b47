"""Are two aligned crops of one person? By an exported model, with what is known of the threshold."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lossbench.data.images.decode import decode, read_bytes
from lossbench.data.images.packing import square
from lossbench.data.prepare.align import CROPS, landmark_matrix, warp
from lossbench.data.prepare.face_choice import Choice, face_in
from lossbench.data.prepare.options import DetectOptions
from lossbench.errors import InputError
from lossbench.metrics.operating_point import is_thin
from lossbench.results.model_file import ExportedModel
from lossbench.utils.text import listed, rate_text, shown

USUAL_FPR = 0.01


@dataclass(frozen=True)
class Verified:
    """What a model says of a pair of images, `sizes` as they were decoded (width, height), or cropped about a face.

    `point` is the operating point of the metadata that decides, and `same` the decision; both None where the model has
    no thresholds. `accepted` and `refused` are the rates at whose thresholds the pair is, and is not, of one person.
    `faces` are those that were detected, if any were searched for.
    """

    cosine: float
    sizes: tuple[tuple[int, int], tuple[int, int]]
    point: dict[str, Any] | None
    same: bool | None
    accepted: tuple[float, ...]
    refused: tuple[float, ...]
    faces: tuple[Choice, ...] = ()

    @property
    def thin(self) -> bool:
        """Whether fewer than ten negatives decide the threshold."""
        return self.point is not None and is_thin(self.point["fpr"], self.point["negatives"])


def verify(model: ExportedModel, a: Path, b: Path, fpr: float | None = None, *, detect: bool = False) -> Verified:
    """Compare two images by a model, and decide at a false-positive rate.

    Images are prepared as in training: the centre square, resized; or the face that is found in them, aligned.

    Args:
        model: as `read_model` returns it.
        a: an image of an aligned face, or any photo to detect one in.
        b: the other.
        fpr: a rate at which the model has a threshold; if None, 0.01, or the lowest there is where that is above it.
        detect: find the largest face in each, and align it with the template that the model's metadata names.

    Raises:
        InputError: an image cannot be read, the model has no threshold at this rate, a photo shows no face, or the
            metadata names no template.
    """
    point = _point(model.facts, fpr)  # first: images take longer to read
    side = model.facts["model"]["image_size"]
    faces: tuple[Choice, ...] = ()
    if detect:
        images, faces = _aligned((a, b), model.facts["alignment"].get("template"), side)
    else:
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
        faces,
    )


def _aligned(files: Sequence[Path], crop: object, side: int) -> tuple[list[Image.Image], tuple[Choice, ...]]:
    """Return the crops of the faces found in photos, `side` x `side` pixels, and these faces."""
    if not isinstance(crop, str) or crop not in CROPS:
        raise InputError(
            "--detect: the model's metadata names no template to align with, since its data was not prepared by "
            "lossbench, or has changed; give crops as in training, without --detect"
        )
    found = [face_in(file, DetectOptions()) for file in files]
    matrices = [landmark_matrix(choice.landmarks or (), side, crop) for _, choice in found]
    crops = [warp(image, matrix, side) for (image, _), matrix in zip(found, matrices, strict=True)]
    return crops, tuple(choice for _, choice in found)


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
