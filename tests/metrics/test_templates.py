"""Templates against a plain loop in float64 and scikit-learn's ROC; their people resampled by copying them out."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from lossbench.metrics import pool_templates, template_rates, template_scores
from lossbench.metrics.exact.directions import GRID
from lossbench.metrics.operating_point import allowed
from lossbench.metrics.templates import resampled_template_rates

FARS = (0.3, 0.1, 0.01, 0.003)


@pytest.fixture(scope="module")
def listed():
    """40 people with three templates each of one to five images, in one to three media; all pairs of templates."""
    rng = np.random.default_rng(5)
    faces = rng.normal(size=(40, 16))
    images, templates, media = [], [], []
    for template in range(120):
        for _ in range(rng.integers(1, 6)):
            images.append((faces[template // 3] + rng.normal(size=16) * 1.5) * rng.uniform(0.2, 5))
            templates.append(template)
            media.append(int(rng.integers(0, 3)))
    rows = rng.permutation(len(images))
    a, b = np.array([(i, j) for i in range(120) for j in range(i)]).T
    return {
        "embeddings": torch.tensor(np.array(images), dtype=torch.float32)[rows],
        "rows": torch.tensor(np.argsort(rows)), "templates": torch.tensor(templates), "media": torch.tensor(media),
        "a": torch.tensor(a), "b": torch.tensor(b), "same": torch.tensor(a // 3 == b // 3),
        "weights": torch.tensor(rng.uniform(0.1, 1, len(images))),
    }  # fmt: skip


def plain(listed, weighted, keep_norms):
    """The protocol of InsightFace's eval_ijbc.py, template by template and medium by medium."""
    features = listed["embeddings"].double().numpy()[listed["rows"].numpy()]
    if not keep_norms:
        features = features / np.linalg.norm(features, axis=1, keepdims=True)
    if weighted:
        features = features * listed["weights"].numpy()[:, None]
    templates, media = listed["templates"].numpy(), listed["media"].numpy()
    pooled = []
    for template in range(templates.max() + 1):
        own = templates == template
        means = [features[own & (media == medium)].mean(0) for medium in np.unique(media[own])]
        total = np.sum(means, axis=0)
        pooled.append(total / np.linalg.norm(total))
    return np.array(pooled)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("keep_norms", [False, True])
def test_templates_are_those_of_a_plain_loop(listed, weighted, keep_norms):
    entries = listed["rows"], listed["templates"], listed["media"]
    weights = listed["weights"] if weighted else None
    found = pool_templates(listed["embeddings"], *entries, weights=weights, keep_norms=keep_norms)
    expected = plain(listed, weighted, keep_norms)
    np.testing.assert_allclose(found / found.norm(dim=1, keepdim=True), expected, atol=1e-12)
    scores = template_scores(found, listed["a"], listed["b"], block=1000) / GRID
    cosines = (expected[listed["a"]] * expected[listed["b"]]).sum(1)
    np.testing.assert_allclose(scores, cosines, atol=1e-6)
    other = plain(listed, weighted, not keep_norms)
    assert np.abs((other[listed["a"]] * other[listed["b"]]).sum(1) - cosines).max() > 0.01, "norms matter"


def test_rates_are_points_of_the_roc(listed):
    entries = listed["rows"], listed["templates"], listed["media"]
    scores = template_scores(pool_templates(listed["embeddings"], *entries), listed["a"], listed["b"])
    found = template_rates(scores, listed["same"], FARS)
    far, tar, _ = roc_curve(listed["same"], scores, drop_intermediate=False)
    assert (found.positives, found.negatives) == (120, 7020)
    for i, rate in enumerate(FARS):
        k = allowed(rate, found.negatives)
        at = np.flatnonzero(far <= k / found.negatives + 1e-12)[-1]
        assert found.tar[i].item() == pytest.approx(tar[at], abs=1e-12)
        assert found.achieved_far[i].item() == pytest.approx(far[at], abs=1e-12)
        negatives = np.sort(scores.numpy()[~listed["same"].numpy()])[::-1]
        assert found.threshold[i].item() * GRID == negatives[k]


def test_ties_never_push_the_rate_over_its_target_and_few_negatives_support_none():
    scores = torch.tensor([8, 7, 5, 7, 7, 7, 3, 2], dtype=torch.int32)
    same = torch.tensor([True, True, True, False, False, False, False, False])
    found = template_rates(scores, same, [0.4, 0.1])
    assert found.tar.tolist()[0] == pytest.approx(1 / 3)
    assert (found.achieved_far[0].item(), found.threshold[0].item() * GRID) == (0, 7)
    assert all(math.isnan(column[1]) for column in (found.tar, found.threshold, found.achieved_far))


def test_a_drawn_person_counts_as_so_many_people(listed):
    """Each resample against a list in which people are copied out and pairs of two copies left out."""
    entries = listed["rows"], listed["templates"], listed["media"]
    scores = template_scores(pool_templates(listed["embeddings"], *entries), listed["a"], listed["b"])
    first, second = listed["a"] // 3, listed["b"] // 3
    drawn = torch.from_numpy(np.random.default_rng(1).poisson(1.0, size=(6, 40)))
    found = resampled_template_rates(scores, listed["same"], first, second, drawn, FARS)
    assert found.shape == (6, 4)
    for own, rates in zip(drawn.tolist(), found.tolist(), strict=True):
        copied, same = [], []
        for score, p, q in zip(scores.tolist(), first.tolist(), second.tolist(), strict=True):
            times = own[p] if p == q else own[p] * own[q]
            copied += [score] * times
            same += [p == q] * times
        expected = template_rates(torch.tensor(copied, dtype=torch.int32), torch.tensor(same), FARS).tar
        torch.testing.assert_close(torch.tensor(rates, dtype=torch.float64), expected, equal_nan=True)


def test_resamples_of_every_nth_negative_are_close(listed, monkeypatch):
    entries = listed["rows"], listed["templates"], listed["media"]
    scores = template_scores(pool_templates(listed["embeddings"], *entries), listed["a"], listed["b"])
    drawn = torch.from_numpy(np.random.default_rng(1).poisson(1.0, size=(50, 40)))
    given = scores, listed["same"], listed["a"] // 3, listed["b"] // 3, drawn, (0.3, 0.1)
    exact = resampled_template_rates(*given)
    monkeypatch.setattr("lossbench.metrics.templates._MOST", 1000)
    fewer = resampled_template_rates(*given)
    assert not torch.equal(fewer, exact)
    assert (fewer - exact).mean().abs() < 0.01
    assert (fewer.std(0) / exact.std(0) - 1).abs().max() < 0.2, "the spread is what they are for"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"media": torch.zeros(1, dtype=torch.int64)}, r"must all be \[M\]"),
        ({"templates": "skip"}, "a template has no image"),
        ({"embeddings": "zero"}, "an embedding is zero or not finite"),
    ],
)
def test_what_cannot_be_pooled_is_refused(listed, change, says):
    given = {name: listed[name] for name in ("embeddings", "rows", "templates", "media")} | change
    if isinstance(given["templates"], str):
        given["templates"] = listed["templates"] + 1
    if isinstance(given["embeddings"], str):
        given["embeddings"] = listed["embeddings"] * 0
    with pytest.raises(ValueError, match=says):
        pool_templates(**given)


@pytest.mark.parametrize(
    ("same", "fars", "says"),
    [([True, True], [0.1], "pairs of one person and pairs of two"), ([True, False], [1.0], "rate 1.0 is not between"),
     ([True], [0.1], r"must both be \[P\]")],
)  # fmt: skip
def test_what_cannot_be_rated_is_refused(same, fars, says):
    with pytest.raises(ValueError, match=says):
        template_rates(torch.tensor([1, 2], dtype=torch.int32), torch.tensor(same), fars)
