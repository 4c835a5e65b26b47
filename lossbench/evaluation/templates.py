"""A model measured on templates: the 1:1 protocol of IJB-B and IJB-C."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lossbench.data.templates import TemplateSet
from lossbench.evaluation.models import Model, Progress, silent, whole
from lossbench.metrics.bootstrap import multiplicities
from lossbench.metrics.operating_point import FURTHER_FPRS, is_supported
from lossbench.metrics.templates import (
    pool_templates,
    resampled_template_rates,
    template_rates,
    template_replicates,
    template_scores,
)
from lossbench.results.metric_fields import at

USUAL_FARS = (0.1, 0.01, 0.001, 1e-4, 1e-5)  # shown even where a list does not support them


@dataclass(frozen=True)
class TemplateFigures:
    """Figures of a 1:1 list of templates by key, and their standard deviations over resamples of the people.

    `spread` is empty where the list does not say who is on a template.
    """

    figures: dict[str, Any]
    spread: dict[str, float]


def fars_of(templates: TemplateSet, asked: Sequence[float]) -> tuple[float, ...]:
    """Return the rates to measure: those asked for, else the usual ones, with 1e-6 where it is supported."""
    negatives = int((~templates.same).sum())
    return tuple(asked) or (
        *USUAL_FARS,
        *(r for r in FURTHER_FPRS if r < min(USUAL_FARS) and is_supported(r, negatives)),
    )


def template_figures(
    model: Model,
    templates: TemplateSet,
    *,
    fars: Sequence[float] = (),
    flip: bool = False,
    keep_norms: bool = False,
    on_progress: Progress = silent,
) -> TemplateFigures:
    """Measure TAR at false-accept rates on a 1:1 list of templates: see `metrics.templates`.

    Args:
        model: embeds the images.
        templates: the templates and their pairs.
        fars: the false-accept rates; the usual ones if there are none.
        flip: add the embedding of the mirrored image to each image's, as InsightFace does.
        keep_norms: leave image features as long as they are, as InsightFace does; else each has length 1.
        on_progress: called while images are decoded for the first time.

    Raises:
        InputError: an image cannot be read.
    """
    fars = fars_of(templates, fars)
    (embeddings,) = model.embed(templates.files, [whole(templates.files)], flip=flip, on_progress=on_progress)
    entries = (torch.from_numpy(column) for column in (templates.rows, templates.templates, templates.media))
    weights = None if templates.weights is None else torch.from_numpy(templates.weights)
    pooled = pool_templates(embeddings, *entries, weights=weights, keep_norms=keep_norms)
    a, b, same = (torch.from_numpy(column) for column in (templates.a, templates.b, templates.same))
    scores = template_scores(pooled, a, b)
    rates = template_rates(scores, same, fars)
    figures: dict[str, Any] = {"template_positives": rates.positives, "template_negatives": rates.negatives}
    for i, far in enumerate(fars):
        for key, column in (("tar", rates.tar), ("achieved_far", rates.achieved_far), ("threshold", rates.threshold)):
            figures[at(f"template_{key}", far)] = column[i].item()
    return TemplateFigures(figures, {} if templates.people is None else _spread(templates, scores, fars))


def spread_of(resamples: Mapping[str, npt.NDArray[np.float64]]) -> dict[str, float]:
    """Return, by key, the standard deviation of a figure's resamples [B], those left out that are not finite.

    NaN where fewer than two are.

    Example:
        >>> spread_of({"tar": np.array([1.0, 2.0, math.nan, 3.0])})
        {'tar': 1.0}
    """
    finite = {key: column[np.isfinite(column)] for key, column in resamples.items()}
    return {key: float(column.std(ddof=1)) if len(column) > 1 else math.nan for key, column in finite.items()}


def _spread(templates: TemplateSet, scores: torch.Tensor, fars: Sequence[float]) -> dict[str, float]:
    """Return the standard deviation of each TAR over resamples of the people."""
    names, person = np.unique(np.asarray(templates.people, dtype=object), return_inverse=True)
    drawn = multiplicities(names.tolist(), template_replicates(int((~templates.same).sum())))
    person = person.astype(np.int32)  # there may be millions of pairs
    first, second = (torch.from_numpy(person[side]) for side in (templates.a, templates.b))
    found = resampled_template_rates(scores, torch.from_numpy(templates.same), first, second, drawn, fars).numpy()
    return spread_of({at("template_tar", far): column for far, column in zip(fars, found.T, strict=True)})
