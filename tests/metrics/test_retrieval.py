"""retrieval against a plain loop on data full of ties, and against pytorch-metric-learning's AccuracyCalculator."""

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from lossbench.metrics import Retrieval, retrieval


def with_ties(seed, count=40, people=9, dim=3):
    """Small integer vectors of people with 1 to many images: hundreds of equal cosines, and copies."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (count, dim)).astype(np.float64)
    x[~x.any(1)] = 1.0
    x[3], x[7] = x[2], 3 * x[2]
    labels = np.concatenate([rng.integers(0, people, count - 2), [people, people + 1]])  # two people of one image
    return torch.from_numpy(x), torch.from_numpy(labels)


def plain(x, labels):
    """Precision@1, R-precision, MAP@R by the paper's formulas; of equal cosines, other people first."""
    x, labels = x.double().tolist(), labels.tolist()

    def cosine(a, b):
        dot = sum(p * q for p, q in zip(a, b, strict=True))
        return round(dot / math.sqrt(sum(p * p for p in a)) / math.sqrt(sum(p * p for p in b)), 7)

    figures = []
    for i, a in enumerate(x):
        ranked = sorted((-cosine(a, b), labels[j] == labels[i]) for j, b in enumerate(x) if j != i)
        hits = [hit for _, hit in ranked]
        if r := sum(hits):
            gained = sum(sum(hits[: n + 1]) / (n + 1) for n in range(r) if hits[n])
            figures.append((hits[0], sum(hits[:r]) / r, gained / r))
    return [sum(column) / len(figures) for column in zip(*figures, strict=True)], len(figures)


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_plain_loop_with_many_ties(seed):
    x, labels = with_ties(seed)
    expected, queries = plain(x, labels)
    got = retrieval(x, labels)
    assert [got.precision_at_1, got.r_precision, got.map_at_r] == pytest.approx(expected, abs=1e-12)
    assert (got.queries, got.alone) == (queries, len(x) - queries)
    assert got.alone >= 2


@pytest.mark.parametrize("seed", range(3))
def test_equals_pytorch_metric_learning(seed):
    torch.manual_seed(seed)
    labels = torch.cat([torch.randint(0, 12, (150,)), torch.arange(20, 25)])  # five people of one image
    x = torch.randn(30, 16)[labels] + 1.2 * torch.randn(155, 16)
    first, second = (labels == labels[0]).nonzero().squeeze(1)[:2]
    x[second] = x[first]  # the same face twice
    figures = ("precision_at_1", "r_precision", "mean_average_precision_at_r")
    oracle = AccuracyCalculator(
        include=figures, k="max_bin_count", device=torch.device("cpu"), knn_func=CustomKNN(CosineSimilarity())
    ).get_accuracy(x, labels)
    got = retrieval(x, labels)
    assert 0.1 < got.map_at_r < 0.9
    assert (got.precision_at_1, got.r_precision, got.map_at_r) == pytest.approx([oracle[f] for f in figures], abs=1e-9)


@pytest.mark.parametrize("block", [1, 3, 16, 39, 1000])
@pytest.mark.parametrize("ties", [False, True])
def test_blocks_change_nothing(block, ties):
    x, labels = with_ties(1)
    if not ties:
        x = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert retrieval(x, labels, block=block) == retrieval(x, labels)


def test_known_ranks():
    x = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.7, 0.5]])
    # of image 0 the ranks are 1, 3, 2; of image 1: 0, 3, 2; of image 3: 1, 0, 2; image 2 is of another person
    assert retrieval(x, torch.tensor([0, 0, 1, 0])) == Retrieval(1.0, 1.0, 1.0, 3, 1)
    # R = 1. The nearest of image 0 is 1 and of image 2 is 3; of image 1 it is 0 and of image 3 it is 1
    assert retrieval(x, torch.tensor([0, 1, 1, 0])) == Retrieval(0.0, 0.0, 0.0, 4, 0)


def test_an_embedding_of_one_point_finds_no_match():
    assert retrieval(torch.ones(9, 4), torch.arange(9) % 3) == Retrieval(0.0, 0.0, 0.0, 9, 0)


def test_copies_of_ones_own_face_are_found():
    assert retrieval(torch.eye(3).repeat(4, 1), torch.arange(12) % 3) == Retrieval(1.0, 1.0, 1.0, 12, 0)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_no_match_to_find_is_nan(count):
    got = retrieval(torch.eye(3)[:count], torch.arange(count))
    assert math.isnan(got.precision_at_1)
    assert math.isnan(got.r_precision)
    assert math.isnan(got.map_at_r)
    assert (got.queries, got.alone) == (0, count)


def test_real_faces(pixels):
    """ORL's pixels find their person far better than chance, and best first."""
    x, labels = pixels[:200, ::2, ::2, 0].flatten(1).double(), torch.arange(200) // 10
    got = retrieval(x - x.mean(dim=0), labels)
    assert got.queries == 200
    assert 0.9 < got.precision_at_1 <= 1
    assert 0.3 < got.map_at_r < got.r_precision < got.precision_at_1
