"""What metrics are computed from: inputs that are given by name, and those made of them that several metrics share.

Given are, where a measurement has them:

- ``train``, ``val``, ``test``, ``query``, ``distractors``: embeddings [N, D]; ``train_labels`` and so on: labels [N];
  ``train_people`` and so on: the names that labels count within.
- ``centers``: the head's unit rows [C, D], or None. ``test_hits``, ``val_hits``: images recognised [N] (bool).
- ``fprs``: the false-positive rates asked for, from the largest down; without, the usual ones that the data supports.
- ``pair_scores``, ``pair_same``, ``pair_folds``: verification pairs [P].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lossbench.metrics import (
    ClusterStatistics,
    Cmc,
    Enrolment,
    OpenSet,
    angle_statistics,
    cluster_statistics,
    cmc,
    enrol,
    identification_rate,
    nearest_mean_hits,
    open_set,
    retrieval,
    threshold_transfer,
    verification,
)
from lossbench.metrics.bootstrap import bootstrap_identification, bootstrap_share, multiplicities, replicates_for
from lossbench.metrics.operating_point import usual_fprs

_KMEANS = 20_000_000  # images times people, beyond which k-means would take minutes: its figures are then null


@dataclass(frozen=True)
class Computation:
    """A function and the names of the inputs that it takes, in order."""

    function: Callable[..., Any]
    inputs: tuple[str, ...]


class Values:
    """Inputs by name: given, or computed when first asked for and then kept.

    Example:
        >>> values = Values({"test_hits": torch.tensor([True, False])})
        >>> values.can(("test_hits",)), values.can(("rates",))
        (True, False)
        >>> values.of(Computation(lambda hits: hits.sum().item(), ("test_hits",)))
        1
    """

    def __init__(self, given: Mapping[str, Any]):
        self._known = dict(given)

    def can(self, names: Sequence[str]) -> bool:
        """Return whether all of these inputs are given or can be computed."""
        return all(name in self._known or (name in SHARED and self.can(SHARED[name].inputs)) for name in names)

    def of(self, computation: Computation) -> Any:
        """Return what a function makes of its inputs."""
        return computation.function(*(self[name] for name in computation.inputs))

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = self.of(SHARED[name])
        return self._known[name]


def _usual_fprs(query: Tensor, labels: Tensor, distractors: Tensor) -> tuple[float, ...]:
    own = torch.unique(labels, return_counts=True)[1]
    return usual_fprs((len(query) ** 2 - int((own**2).sum())) // 2 + len(query) * len(distractors))


def _clusters(query: Tensor, labels: Tensor) -> ClusterStatistics:
    return cluster_statistics(query, labels, kmeans=len(query) * len(torch.bincount(labels).nonzero()) <= _KMEANS)


def _search(gallery: Enrolment, query: Tensor, distractors: Tensor) -> Cmc:
    return cmc(gallery.templates, query[gallery.probes], gallery.people, distractors)


def _search_alone(gallery: Enrolment, query: Tensor) -> Cmc:
    return _search(gallery, query, query[:0])


def _open_set(gallery: Enrolment, query: Tensor, distractors: Tensor) -> OpenSet:
    return open_set(gallery.templates, query[gallery.probes], gallery.people, distractors)


def _replicates(query: Tensor, distractors: Tensor) -> int:
    return replicates_for(len(query), len(distractors))


def _drawn(people: Sequence[str], replicates: int) -> Tensor:
    return multiplicities(people, replicates) if people else torch.zeros(replicates, 0, dtype=torch.int64)


def resampled_share(hits: Tensor, labels: Tensor, drawn: Tensor) -> Tensor:
    """Return the share of hits [N] in each resample of the people: [B]; see `metrics.bootstrap.bootstrap_share`."""
    return bootstrap_share(hits.cpu(), labels.cpu(), drawn)


_OPEN = ("query", "query_labels", "distractors")

#: Computed once a measurement, whichever metrics ask for them.
SHARED: dict[str, Computation] = {
    "test_hits_ncm": Computation(nearest_mean_hits, ("test", "test_labels", "train", "train_labels")),
    "train_angles": Computation(angle_statistics, ("train", "train_labels", "centers")),
    "query_angles": Computation(angle_statistics, ("query", "query_labels")),
    "fprs": Computation(_usual_fprs, _OPEN),
    "rates": Computation(identification_rate, (*_OPEN, "fprs")),
    "transfer": Computation(threshold_transfer, ("val", "val_labels", *_OPEN, "fprs")),
    "gallery": Computation(enrol, ("query", "query_labels")),
    "search_alone": Computation(_search_alone, ("gallery", "query")),
    "search": Computation(_search, ("gallery", "query", "distractors")),
    "open_set": Computation(_open_set, ("gallery", "query", "distractors")),
    "retrieval": Computation(retrieval, ("query", "query_labels")),
    "clusters": Computation(_clusters, ("query", "query_labels")),
    "verification": Computation(verification, ("pair_scores", "pair_same", "pair_folds")),
    "replicates": Computation(_replicates, ("query", "distractors")),
    "test_drawn": Computation(_drawn, ("test_people", "replicates")),
    "query_drawn": Computation(_drawn, ("query_people", "replicates")),
    "distractors_drawn": Computation(_drawn, ("distractors_people", "replicates")),
    "resampled_rates": Computation(
        bootstrap_identification, (*_OPEN, "distractors_labels", "query_drawn", "distractors_drawn", "fprs")
    ),
}


def needs(names: Sequence[str], given: str) -> bool:
    """Return whether one of these inputs is computed from a given one, or is that one.

    Example:
        >>> needs(("search_alone",), "query"), needs(("test_hits",), "query")
        (True, False)
    """
    return any(name == given or (name in SHARED and needs(SHARED[name].inputs, given)) for name in names)
