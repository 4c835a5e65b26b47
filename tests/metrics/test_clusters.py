"""Cluster statistics against scikit-learn, SciPy and NumPy, and on embeddings whose figures are known."""

import math
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist
from scipy.stats import entropy
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_mutual_info_score, mutual_info_score, silhouette_score
from threadpoolctl import threadpool_info, threadpool_limits

from lossbench.metrics import (
    ClusterStatistics,
    alignment,
    cluster_statistics,
    clusters,
    effective_rank,
    kmeans_agreement,
    silhouette,
    uniformity,
)


def made(kind, seed=0):
    """Embeddings and labels: plain, integer (many equal cosines), with people of one image, or with copies."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 6, 60)
    x = rng.normal(size=(6, 5))[labels] + rng.normal(size=(60, 5))
    if kind == "integers":
        x = x.round()
        x[~x.any(1)] = 1.0
    if kind == "alone":
        labels[[4, 30]] = 17, 21
    if kind == "copies":
        x[10:20] = x[:10] * 3
    return torch.from_numpy(x), torch.from_numpy(labels)


KINDS = pytest.mark.parametrize("kind", ["plain", "integers", "alone", "copies"])
SEEDS = pytest.mark.parametrize("seed", range(3))


def unit(x):
    return x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True)


@KINDS
@SEEDS
def test_silhouette_as_scikit_learn(kind, seed):
    x, labels = made(kind, seed)
    assert silhouette(x, labels) == pytest.approx(silhouette_score(x, labels, metric="cosine"), abs=1e-9)
    assert silhouette(x, labels, block=7) == pytest.approx(silhouette(x, labels), abs=1e-14)


def test_silhouette_of_known_cases():
    apart = torch.eye(3).repeat(4, 1)
    assert silhouette(apart, torch.arange(12) % 3) == pytest.approx(1.0)
    torch.manual_seed(0)
    point = torch.randn(1, 64) * torch.rand(50, 1).add(0.1)
    assert silhouette(point, torch.arange(50) % 5) == 0.0  # all distances are rounding
    x = torch.tensor([[1.0, 0], [0, 1], [-1, 0]])
    assert silhouette(x, torch.tensor([0, 0, 1])) == pytest.approx((0.5 + 0 + 0) / 3)


@KINDS
@SEEDS
def test_alignment_as_scipy(kind, seed):
    x, labels = made(kind, seed)
    pairs = np.concatenate([pdist(unit(x)[labels.numpy() == person]) ** 2 for person in np.unique(labels)])
    assert alignment(x, labels) == pytest.approx(pairs.mean(), abs=1e-12)


def test_alignment_of_known_cases():
    assert alignment(torch.tensor([[1.0, 0], [-5, 0]]), torch.tensor([3, 3])) == pytest.approx(4)
    assert alignment(torch.tensor([[1.0, 0], [0, 2], [3, 0]]), torch.tensor([3, 3, 4])) == pytest.approx(2)
    assert alignment(torch.eye(4).repeat(3, 1), torch.arange(12) % 4) == 0


@KINDS
@SEEDS
def test_uniformity_as_scipy(kind, seed):
    x, _ = made(kind, seed)
    expected = math.log(np.exp(-2 * pdist(unit(x)) ** 2).mean())
    assert uniformity(x) == pytest.approx(expected, abs=4e-9)


@pytest.mark.parametrize("block", [1, 7, 59, 1000])
def test_uniformity_is_the_same_in_any_blocks_and_order(block):
    x, _ = made("plain")
    assert uniformity(x, block=block) == uniformity(x)
    assert uniformity(x.flip(0), block=block) == uniformity(x)


def test_uniformity_of_known_cases():
    assert uniformity(torch.ones(5, 3)) == 0
    assert uniformity(torch.tensor([[1.0, 0], [-1, 0]])) == pytest.approx(-8)
    assert uniformity(torch.eye(4)) == pytest.approx(-4)


@KINDS
@SEEDS
def test_effective_rank_as_numpy_and_scipy(kind, seed):
    x, _ = made(kind, seed)
    values = np.linalg.svd(np.cov(unit(x), rowvar=False), compute_uv=False)
    assert effective_rank(x) == pytest.approx(np.exp(entropy(values)), rel=1e-9)


@pytest.mark.parametrize("directions", [1, 2, 5, 8])
def test_effective_rank_counts_directions(directions):
    axes = torch.linalg.qr(torch.randn(8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))).Q
    used = torch.cat([axes[:directions], -axes[:directions]])
    assert effective_rank(used.repeat(3, 1)) == pytest.approx(directions)


def test_effective_rank_of_collapsed_embeddings_is_one():
    torch.manual_seed(0)
    assert effective_rank(torch.randn(1, 64) * torch.rand(50, 1).add(0.1)) == 1.0  # a point, in float32
    line = torch.randn(1, 64) + torch.randn(50, 1) * torch.randn(1, 64) * 0.1 + 1e-4 * torch.randn(50, 64)
    assert 1 < effective_rank(line) < 1.5
    assert effective_rank(torch.randn(500, 64)) > 50


@SEEDS
def test_agreement_of_clumps_that_are_not_people(seed):
    """Tight clumps leave k-means no choice, so its clusters are known, and people are spread over them."""
    rng = np.random.default_rng(seed)
    clumps = np.concatenate([np.arange(8), rng.integers(0, 8, 112)])
    people = np.where(rng.random(120) < 0.6, clumps, rng.integers(0, 8, 120))
    x = np.eye(8)[clumps] + 0.01 * rng.normal(size=(120, 8))
    nmi, ami = kmeans_agreement(torch.from_numpy(x), torch.from_numpy(people))
    entropies = [entropy(np.bincount(side)) for side in (people, clumps)]
    assert nmi == pytest.approx(mutual_info_score(people, clumps) / np.mean(entropies), abs=1e-9)
    assert ami == pytest.approx(adjusted_mutual_info_score(people, clumps), abs=1e-9)
    assert 0.2 < ami < nmi < 0.8


def test_agreement_of_known_cases():
    labels = torch.arange(40) % 4
    assert kmeans_agreement(torch.eye(4)[labels], labels) == pytest.approx((1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # one point for four clusters is no reason to warn
        assert kmeans_agreement(torch.ones(40, 4), labels) == pytest.approx((0, 0))
    noise = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
    assert abs(kmeans_agreement(noise, torch.arange(400) % 20)[1]) < 0.05


def test_agreement_repeats_exactly():
    x, labels = made("plain")
    assert kmeans_agreement(x, labels) == kmeans_agreement(x, labels)


def test_agreement_clusters_each_start_on_one_thread(monkeypatch):
    seen = []
    cluster = KMeans.fit

    def fit(self, points):
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        return cluster(self, points)

    monkeypatch.setattr(KMeans, "fit", fit)
    with threadpool_limits(2), threads(2):
        kmeans_agreement(*made("plain"))
        assert any(pool["num_threads"] > 1 for pool in threadpool_info())  # else nothing is tested
    assert seen
    assert set(seen) == {1}


@contextmanager
def threads(count):
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("people", [2, 9, 30])  # of 60 points: the starts find the same, or other clusters
@pytest.mark.parametrize("count", [1, 3])
@SEEDS
def test_starts_at_a_time_find_the_clusters_of_scikit_learn(people, count, seed):
    points = unit(made("plain", seed)[0])
    with threads(count):
        found = clusters._kmeans(points, people, seed, 3)
    assert found.tolist() == KMeans(people, n_init=3, random_state=seed).fit_predict(points).tolist()


def test_all_at_once_are_the_single_figures():
    x, labels = made("alone")
    nmi, ami = kmeans_agreement(x, labels)
    assert cluster_statistics(x, labels) == ClusterStatistics(
        silhouette(x, labels), nmi, ami, alignment(x, labels), uniformity(x), effective_rank(x)
    )


@pytest.mark.parametrize(
    ("count", "labels", "measured"),
    [
        (0, [], ()),
        (1, [0], ()),
        (3, [0, 1, 2], ("uniformity", "effective_rank")),
        (3, [4, 4, 4], ("alignment", "uniformity", "effective_rank")),
    ],
)
def test_nothing_to_measure_is_nan(count, labels, measured):
    got = vars(cluster_statistics(torch.eye(3)[:count], torch.tensor(labels, dtype=torch.int64)))
    assert {name for name, value in got.items() if not math.isnan(value)} == set(measured)


def test_bad_input():
    with pytest.raises(ValueError, match="zero or not finite"):
        cluster_statistics(torch.zeros(4, 2), torch.arange(4) % 2)
    with pytest.raises(ValueError, match="labels"):
        cluster_statistics(torch.ones(4, 2), torch.arange(3))


def test_real_faces_lie_closer_to_their_own_person(pixels):
    x, labels = pixels[:100, ::2, ::2, 0].flatten(1).double(), torch.arange(100) // 10
    x = x - x.mean(dim=0)
    got, chance = cluster_statistics(x, labels), cluster_statistics(x, labels[torch.arange(100) * 37 % 100])
    assert got.silhouette > 0 > chance.silhouette
    assert got.ami > 0.5 > abs(chance.ami)
    assert got.alignment < chance.alignment
    assert (got.uniformity, got.effective_rank) == (chance.uniformity, chance.effective_rank)
