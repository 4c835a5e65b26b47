"""What the people add to the error of a difference however many repeats there are, also where repeats take turns."""

import math
from collections.abc import Mapping
from itertools import combinations

import numpy as np

from lossbench.data.catalogue import data_info
from lossbench.results.study import Floats, Study


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
    draws: dict[int, Floats] = {}
    folds = {record["repeat"]: record["split"] for record in study.records if record["status"] == "finished"}
    for repeat in folds:
        one, other = (study.resamples.get((name, repeat), {}).get(figure) for name in (a, b))
        if one is not None and other is not None and one.shape == other.shape:
            draws[repeat] = one - other
    if guess:
        return _mean_over_folds(draws, folds, data_info(study.records[0]["data"]).folds)
    return _mean_over_folds(draws, folds)


def _mean_over_folds(draws: Mapping[int, Floats], folds: Mapping[int, str], guessed: int = 0) -> float:
    """Return the mean covariance of two folds, each with itself included; of `guessed` folds where none is repeated."""
    found: dict[tuple[str, str], list[float]] = {}
    for one, other in combinations(sorted(draws), 2):
        pair = min(folds[one], folds[other]), max(folds[one], folds[other])
        found.setdefault(pair, []).append(_covariance(draws[one], draws[other]))
    means = {pair: float(np.mean(own)) for pair, own in found.items()}
    same = [mean for (one, other), mean in means.items() if one == other]
    apart = [mean for (one, other), mean in means.items() if one != other]
    if not same and guessed:
        same = [_covariance(own, own) for own in draws.values()]
    if not same:
        return math.nan
    count = max(guessed, len({folds[repeat] for repeat in draws}))
    across = float(np.mean(apart)) if apart else 0.0
    return max(0.0, (float(np.mean(same)) + (count - 1) * across) / count)


def _covariance(a: Floats, b: Floats) -> float:
    length = min(len(a), len(b))  # the draws of a name are the same from the first on
    both = np.isfinite(a[:length]) & np.isfinite(b[:length])
    return float(np.cov(a[:length][both], b[:length][both])[0, 1]) if both.sum() > 1 else 0.0
