"""What the people add to the error of a difference however many repeats there are, also where repeats take turns."""

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np

from lossbench.data.catalogue import data_info
from lossbench.metrics.pooling import paired_draws
from lossbench.metrics.uncertainty import Floats, covariance_of
from lossbench.results.study import Study


def people_limit(study: Study, a: str, b: str, figure: str, *, guess: bool = False) -> float:
    """Return the variance of a - b that the people cause, and that stays however many repeats are added.

    It is the mean covariance of two repeats of ever more, over resamples of the people: that of every two folds, a fold
    with itself included. The latter is known only where a fold has been repeated: NaN before any has. Where all
    repeats are measured on the same people, it is what `Estimate.shared` is; where folds are disjoint, that is 0 at
    first, and this is not.

    Args:
        study: the runs.
        a: an entrant.
        b: another.
        figure: the key of what they differ in.
        guess: where no fold has been repeated, take the variance over resamples within one repeat for a fold's
            covariance with itself: a little too much, since it holds what a person varies by from run to run.
    """
    folds = {record["repeat"]: record["split"] for record in study.records if record["status"] == "finished"}
    draws = paired_draws(study.draws(a, figure), study.draws(b, figure))
    draws = {repeat: own for repeat, own in draws.items() if repeat in folds}
    return _mean_over_folds(draws, folds, data_info(study.records[0]["data"]).folds if guess else 0)


def _mean_over_folds(draws: Mapping[int, Floats], folds: Mapping[int, str], guessed: int) -> float:
    """Return the mean covariance of two folds, each with itself included.

    NaN where none is repeated, unless there are `guessed` folds, more than 0.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for one, other in combinations(sorted(draws), 2):
        pair = min(folds[one], folds[other]), max(folds[one], folds[other])
        found.setdefault(pair, []).append(covariance_of(draws[one], draws[other]))
    means = {pair: float(np.mean(own)) for pair, own in found.items()}
    same = [mean for (one, other), mean in means.items() if one == other]
    apart = [mean for (one, other), mean in means.items() if one != other]
    if not same and guessed:
        same = [covariance_of(own, own) for own in draws.values()]
    if not same:
        return math.nan
    count = max(guessed, len({folds[repeat] for repeat in draws}))
    across = float(np.mean(apart)) if apart else 0.0
    return max(0.0, (float(np.mean(same)) + (count - 1) * across) / count)
