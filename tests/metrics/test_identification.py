"""identification_rate against a plain double loop and scikit-learn's ROC, on data full of exact ties."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_curve

from lossbench.metrics import identification, identification_rate
from lossbench.metrics.exact import order_statistics
from lossbench.metrics.exact.directions import GRID, Directions, exact_scores
from lossbench.metrics.exact.pairs import Pairs

pytestmark = pytest.mark.usefixtures("each_way")

FPRS = [0.5, 0.2, 0.1, 0.05, 0.01, 0.001]


def with_ties(seed, people=6, each=5, distractors=40, dim=4):
    """Small integer vectors, many of them multiples or copies of one another: hundreds of exactly equal cosines."""
    rng = np.random.default_rng(seed)
    query = rng.integers(-2, 3, (people * each, dim)).astype(np.float64)
    other = rng.integers(-2, 3, (distractors, dim)).astype(np.float64)
    query[~query.any(1)] = 1.0
    other[~other.any(1)] = 1.0
    query[3], query[7], other[5] = query[2], 3 * query[2], 2 * query[2]
    return torch.from_numpy(query), torch.arange(people * each) % people, torch.from_numpy(other)


def plain_scores(query, labels, distractors):
    """All pairs by a double loop, cosines rounded so that what is equal on paper is equal here."""

    def cosine(a, b):
        return round(float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)), 6)

    positives, negatives = [], []
    for i in range(len(query)):
        for j in range(i + 1, len(query)):
            (positives if labels[i] == labels[j] else negatives).append(cosine(query[i], query[j]))
        negatives += [cosine(query[i], d) for d in distractors]
    return positives, negatives


def plain_rate(positives, negatives, fpr):
    """The brief's definition, word for word: TPR, threshold, achieved FPR."""
    k = math.floor(fpr * len(negatives) + 1e-9)
    if fpr * len(negatives) < 1:
        return math.nan, math.nan, math.nan
    threshold = sorted(negatives, reverse=True)[k]
    share = [sum(s > threshold for s in scores) / len(scores) for scores in (positives, negatives)]
    return share[0], threshold, share[1]


@pytest.mark.parametrize("seed", range(8))
def test_equals_a_plain_double_loop_with_many_ties(seed):
    query, labels, distractors = with_ties(seed)
    positives, negatives = plain_scores(query, labels, distractors)
    assert len(set(negatives)) < len(negatives) / 4, "the data should be full of ties"
    got = identification_rate(query, labels, distractors, FPRS)
    assert (got.positives, got.negatives) == (len(positives), len(negatives))
    for i, fpr in enumerate(FPRS):
        tpr, threshold, achieved = plain_rate(positives, negatives, fpr)
        assert got.tpr[i].item() == pytest.approx(tpr, abs=1e-12, nan_ok=True)
        assert got.threshold[i].item() == pytest.approx(threshold, abs=1e-6, nan_ok=True)
        assert got.achieved_fpr[i].item() == pytest.approx(achieved, abs=1e-12, nan_ok=True)
        assert not got.achieved_fpr[i] > fpr


@pytest.mark.parametrize("seed", range(4))
def test_operating_points_lie_on_scikit_learns_roc(seed):
    query, labels, distractors = with_ties(seed, people=8, each=6)
    positives, negatives = plain_scores(query, labels, distractors)
    truth = [1] * len(positives) + [0] * len(negatives)
    fpr, tpr, _ = roc_curve(truth, positives + negatives, drop_intermediate=False)
    corners = set(zip(fpr.round(9), tpr.round(9), strict=True))
    got = identification_rate(query, labels, distractors, [0.5, 0.2, 0.1, 0.05])
    for point in zip(got.achieved_fpr.numpy().round(9), got.tpr.numpy().round(9), strict=True):
        assert point in corners


@pytest.mark.parametrize("block", [1, 3, 16, 1000])
def test_blocks_change_nothing(block):
    torch.manual_seed(0)
    query, labels, distractors = torch.randn(24, 8), torch.arange(24) % 5, torch.randn(30, 8)
    query[10], query[20] = query[3], 5 * query[3]
    whole, parts = (identification_rate(query, labels, distractors, FPRS, block=b) for b in (2048, block))
    for name in ("tpr", "threshold", "achieved_fpr"):
        torch.testing.assert_close(getattr(parts, name), getattr(whole, name), rtol=0, atol=0, equal_nan=True)


def test_an_unsupported_point_is_nan_and_never_a_number():
    query, labels, distractors = with_ties(0)
    n = identification_rate(query, labels, distractors, [0.5]).negatives
    got = identification_rate(query, labels, distractors, [1 / n, 0.999 / n])
    assert not got.tpr[0].isnan()
    assert got.tpr[1].isnan()
    assert got.threshold[1].isnan()


def test_equal_scores_are_not_accepted():
    same = torch.ones(6, 3)
    got = identification_rate(same, torch.tensor([0, 0, 1, 1, 2, 2]), torch.ones(4, 3), [0.1, 0.5])
    assert got.tpr.tolist() == [0.0, 0.0]
    assert got.achieved_fpr.tolist() == [0.0, 0.0]


def test_equal_embeddings_of_two_images_are_a_pair_like_any_other():
    query = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0.1, 1]])
    got = identification_rate(query, torch.tensor([0, 0, 1, 1]), torch.tensor([[-1.0, -1], [-1, 0], [0, -1]]), [0.3])
    assert got.positives == 2
    assert got.tpr[0] == 1.0


def test_without_distractors_and_with_people_of_one_image():
    query, labels = torch.eye(4), torch.arange(4)
    got = identification_rate(query, labels, torch.empty(0, 4), [0.5])
    assert (got.positives, got.negatives) == (0, 6)
    assert got.tpr.isnan().all()


@pytest.mark.parametrize("change", ["norms", "rotation", "order", "labels"])
def test_what_changes_nothing(change):
    torch.manual_seed(1)
    query, labels, distractors = torch.randn(30, 6), torch.arange(30) % 5, torch.randn(40, 6)
    before = identification_rate(query, labels, distractors, FPRS)
    if change == "norms":
        query, distractors = query * torch.rand(30, 1).add(0.1), distractors * 7
    if change == "rotation":
        turn = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64)).Q
        query, distractors = query.double() @ turn, distractors.double() @ turn
    if change == "order":
        order = torch.randperm(30)
        query, labels, distractors = query[order], labels[order], distractors.flip(0)
    if change == "labels":
        labels = 1000 - 3 * labels
    after = identification_rate(query, labels, distractors, FPRS)
    torch.testing.assert_close(after.tpr, before.tpr, equal_nan=True)


@pytest.mark.parametrize(
    ("query", "labels", "distractors", "fprs", "says"),
    [
        (torch.ones(2, 3), torch.zeros(2), torch.ones(2, 4), [0.1], "must be"),
        (torch.ones(2, 3), torch.zeros(3), torch.ones(2, 3), [0.1], "query_labels"),
        (torch.ones(2, 3), torch.zeros(2), torch.ones(2, 3), [1.0], "not between 0 and 1"),
        (torch.zeros(2, 3), torch.zeros(2), torch.ones(2, 3), [0.1], "zero or not finite"),
        (torch.full((2, 3), math.nan), torch.zeros(2), torch.ones(2, 3), [0.1], "zero or not finite"),
    ],
)
def test_bad_input(query, labels, distractors, fprs, says):
    with pytest.raises(ValueError, match=says):
        identification_rate(query, labels, distractors, fprs)


def test_rates_that_are_not_given_are_the_four_headline_ones():
    query, labels, distractors = with_ties(0)
    got = identification_rate(query, labels, distractors)
    assert got.fpr.tolist() == [0.1, 0.05, 0.01, 0.001]
    assert torch.equal(got.tpr, identification_rate(query, labels, distractors, got.fpr.tolist()).tpr)


@pytest.mark.parametrize("block", [10, 64, 4096])
@pytest.mark.parametrize("kept", [200, 10**6])
def test_the_identification_rate_is_the_same_for_any_block_and_memory(block, kept, monkeypatch):
    torch.manual_seed(0)
    labels = torch.arange(60) % 9
    query = torch.randn(9, 12)[labels] + torch.randn(60, 12)
    distractors = torch.randn(200, 12)
    query[10], query[20], distractors[7] = query[3], 5 * query[3], query[3]
    fprs = [0.5, 0.1, 0.01, 0.001]
    whole = identification_rate(query, labels, distractors, fprs)
    monkeypatch.setattr(identification, "_MOST", kept)
    monkeypatch.setattr(order_statistics, "_LEAST", 50)
    parts = identification_rate(query, labels, distractors, fprs, block=block)
    for name in ("tpr", "threshold", "achieved_fpr"):
        assert torch.equal(getattr(parts, name), getattr(whole, name))


def exact_rates(query, labels, distractors, fprs):
    """Thresholds and achieved rates by sorting all negatives."""
    a, b = Directions(query), Directions(torch.cat([query, distractors]))
    i, j = torch.meshgrid(torch.arange(len(a)), torch.arange(len(b)), indexing="ij")
    negative = (i < j) & ((j >= len(a)) | (labels[i] != labels[j.clamp(max=len(a) - 1)]))
    scores = exact_scores(a, i[negative], b, j[negative]).sort(descending=True).values
    cuts = [scores[math.floor(fpr * len(scores) + 1e-9)] for fpr in fprs]
    return [(int(cut), int((scores > cut).sum()) / len(scores)) for cut in cuts]


@pytest.mark.parametrize("seed", range(30))
def test_a_little_memory_and_nearly_equal_scores_end_and_equal_sorting(seed, monkeypatch):
    """Seeds of which some once never ended: the rank's bracket, rounded to float32, left out its own end."""
    torch.manual_seed(seed)
    chance = np.random.default_rng(seed)
    images, others, spread = (
        int(chance.integers(12, 40)),
        int(chance.integers(0, 60)),
        10.0 ** -chance.integers(0, 7),
    )
    faces = torch.randn(8) + spread * torch.randn(images + others, 8)
    query, distractors, labels = faces[:images], faces[images:], torch.randint(0, images // 2, (images,))
    monkeypatch.setattr(identification, "_MOST", 300)
    monkeypatch.setattr(identification, "_LEAST", int(chance.choice([1, 40])))
    monkeypatch.setattr(order_statistics, "_LEAST", int(chance.choice([1, 20])))
    monkeypatch.setattr(order_statistics, "_AT_ONCE", 50)
    monkeypatch.setattr(order_statistics, "_FEW", int(chance.integers(0, 3)))
    monkeypatch.setattr(order_statistics, "_CROWD", int(chance.choice([1, 3])))
    passes, jobs = [], Pairs.jobs

    def counted(self, number):
        passes.append(number)
        assert number < 20, "it never ends"
        return jobs(self, number)

    monkeypatch.setattr(Pairs, "jobs", counted)
    fprs = [0.02, 0.05, 0.5]
    found = identification_rate(query, labels, distractors, fprs, block=int(chance.choice([4, 8, 64])))
    rates = zip((found.threshold * GRID).round().tolist(), found.achieved_fpr.tolist(), strict=True)
    assert list(rates) == exact_rates(query, labels, distractors, fprs)
    assert passes
