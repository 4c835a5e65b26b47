"""What must change no metric of embeddings: norms, a rotation of all, the order of images, the names of people.

A new metric is one line of METRICS. Every public function of lossbench.metrics is there or in OTHERS.
"""

import inspect
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, fields, replace

import pytest
import torch
from torch import Tensor

from lossbench import metrics

FPRS = (0.3, 0.1, 0.03, 0.01)


@dataclass(frozen=True)
class Faces:
    """Embeddings of query, distractor and training people; the training people are also those of `closed`."""

    query: Tensor
    query_labels: Tensor
    distractors: Tensor
    train: Tensor
    train_labels: Tensor
    closed: Tensor
    closed_labels: Tensor
    pairs: Tensor  # [P, 2] of query images


def made(ties: bool) -> Faces:
    """People of one image and of many, copies, and, with `ties`, small integers: many equal cosines."""
    torch.manual_seed(7)

    def faces(people, count, dim=6):
        labels = torch.cat([torch.arange(people), torch.randint(0, people - 2, (count - people,))])
        x = torch.randn(people, dim)[labels] + 0.8 * torch.randn(count, dim)
        x = x.mul(1.5).round() if ties else x
        x[(x == 0).all(dim=1)] = 1.0
        x[count // 2] = 2 * x[count // 2 + 1]
        return x.double(), labels

    query, train, closed = faces(9, 50), faces(7, 40), faces(7, 30)
    return Faces(*query, faces(20, 30)[0], *train, *closed, torch.randint(0, 50, (300, 2)))


def verification(f: Faces):
    a, b = f.pairs.T
    scores, same = metrics.pair_scores(f.query[a], f.query[b]), f.query_labels[a] == f.query_labels[b]
    return metrics.verification(scores, same, torch.arange(len(f.pairs)) % 5, far=0.1)


def search(f: Faces):
    """A gallery of all training images, a template a person; the closed-set images are the probes."""
    gallery = metrics.enrol(f.train, f.train_labels, len(f.train))
    return gallery.templates, f.closed, torch.searchsorted(f.train_labels.unique(), f.closed_labels), f.distractors


def templates(f: Faces):
    """Pair by pair a template of two images, of one medium or of two in turn, and one of a single image."""
    (a, b), count = f.pairs.T, len(f.pairs)
    first, one = torch.arange(count), torch.zeros(count, dtype=torch.int64)
    pooled = metrics.pool_templates(
        f.query,
        torch.cat([a, b.roll(1), b]),
        torch.cat([first, first, first + count]),
        torch.cat([one, first % 2, one]),
    )
    scores = metrics.template_scores(pooled, first, first + count)
    return metrics.template_rates(scores, f.query_labels[a] == f.query_labels[b], FPRS)


@dataclass(frozen=True)
class Metric:
    """A function of faces, and how far its figures may move; those that count scores on a grid do not move at all."""

    measure: Callable[[Faces], object]
    tolerance: float = 1e-9


METRICS = {
    "identification_rate": Metric(
        lambda f: metrics.identification_rate(f.query, f.query_labels, f.distractors, FPRS), 0
    ),
    "threshold_transfer": Metric(
        lambda f: metrics.threshold_transfer(f.train, f.train_labels, f.query, f.query_labels, f.distractors, FPRS), 0
    ),
    "cmc": Metric(lambda f: metrics.cmc(*search(f), (1, 2, 5)), 0),
    "open_set": Metric(lambda f: metrics.open_set(*search(f), FPRS), 0),
    "retrieval": Metric(lambda f: metrics.retrieval(f.query, f.query_labels), 0),
    "cluster_statistics": Metric(lambda f: metrics.cluster_statistics(f.query, f.query_labels)),
    "silhouette": Metric(lambda f: metrics.silhouette(f.query, f.query_labels)),
    "kmeans_agreement": Metric(lambda f: metrics.kmeans_agreement(f.query, f.query_labels)),
    "alignment": Metric(lambda f: metrics.alignment(f.query, f.query_labels)),
    "uniformity": Metric(lambda f: metrics.uniformity(f.query), 0),
    "effective_rank": Metric(lambda f: metrics.effective_rank(f.query)),
    "total_variance": Metric(lambda f: metrics.total_variance(f.query)),
    "angle_statistics": Metric(lambda f: metrics.angle_statistics(f.query, f.query_labels), 1e-5),  # acos near 1
    "nearest_mean_accuracy": Metric(
        lambda f: metrics.nearest_mean_accuracy(f.closed, f.closed_labels, f.train, f.train_labels)
    ),
    "verification": Metric(verification, 1e-6),  # scores are float32
    "template_rates": Metric(templates, 1e-9),
}
OTHERS = {
    *("class_means", "logit_hits", "logit_accuracy", "nearest_mean_hits"),  # not a figure, or not of embeddings
    *("pair_scores", "roc", "auc"),  # in verification
    *("pool_templates", "template_scores"),  # in template_rates
    *("enrol", "estimate", "holm"),
    "identification_rate_of_files",  # the same bits as identification_rate
}


def other_norms(f: Faces) -> Faces:
    def stretched(x):
        return x * torch.rand(len(x), 1, dtype=x.dtype).add(0.1)

    parts = {"query": f.query, "distractors": f.distractors, "train": f.train, "closed": f.closed}
    return replace(f, **{name: stretched(x) for name, x in parts.items()})


def rotated(f: Faces) -> Faces:
    turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
    return replace(
        f, query=f.query @ turn, distractors=f.distractors @ turn, train=f.train @ turn, closed=f.closed @ turn
    )


def reordered(f: Faces) -> Faces:
    query, train, closed = (torch.randperm(len(x)) for x in (f.query, f.train, f.closed))
    return Faces(
        *(f.query[query], f.query_labels[query], f.distractors[torch.randperm(len(f.distractors))]),
        *(f.train[train], f.train_labels[train], f.closed[closed], f.closed_labels[closed]),
        query.argsort()[f.pairs],  # where each image is now
    )


def renamed(f: Faces) -> Faces:
    names = torch.randperm(30)
    return replace(
        f,
        query_labels=names[f.query_labels],
        train_labels=names[f.train_labels],
        closed_labels=names[f.closed_labels],
    )


def figures(result) -> dict:
    if isinstance(result, float):
        return {"": result}
    if isinstance(result, tuple):
        return dict(enumerate(result))
    return vars(result)


@pytest.mark.parametrize("change", [other_norms, rotated, reordered, renamed])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("name", METRICS)
def test_what_changes_nothing(name, ties, change):
    metric, faces = METRICS[name], made(ties)
    before, after = figures(metric.measure(faces)), figures(metric.measure(change(faces)))
    assert before.keys() == after.keys()
    for figure, value in before.items():
        torch.testing.assert_close(
            torch.as_tensor(after[figure], dtype=torch.float64),
            torch.as_tensor(value, dtype=torch.float64),
            rtol=0,
            atol=metric.tolerance,
            equal_nan=True,
            msg=lambda said, figure=figure: f"{name}: {figure}: {said}",
        )


@pytest.mark.parametrize("name", METRICS)
def test_other_embeddings_give_other_figures(name):
    """The test above could not fail for a metric that always says the same."""
    faces = made(False)
    other = replace(
        faces,
        query=torch.randn_like(faces.query),
        distractors=torch.randn_like(faces.distractors),
        closed=torch.randn_like(faces.closed),
    )
    assert str(METRICS[name].measure(faces)) != str(METRICS[name].measure(other))


def test_no_metric_is_left_out():
    public = {name for name in metrics.__all__ if inspect.isfunction(getattr(metrics, name))}
    assert public == METRICS.keys() | OTHERS


def test_what_a_metric_returns_cannot_be_changed():
    results = [getattr(metrics, name) for name in metrics.__all__ if inspect.isclass(getattr(metrics, name))]
    assert len(results) >= 9
    for result in results:
        found = object.__new__(result)
        with pytest.raises(FrozenInstanceError):
            setattr(found, fields(result)[0].name, 0)
