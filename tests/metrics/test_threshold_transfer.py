"""threshold_transfer against a plain double loop, on data full of exact ties."""

import math

import numpy as np
import pytest
import torch

from lossbench.metrics import identification_rate, threshold_transfer

pytestmark = pytest.mark.usefixtures("each_way")

FPRS = [0.5, 0.2, 0.1, 0.05, 0.01, 0.001]


def with_ties(seed, count, people, dim=4):
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (count, dim)).astype(np.float64)
    x[~x.any(1)] = 1.0
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, people, count))


def plain_pairs(x, labels):
    """Scores of the positives and of the negatives, rounded so that what is equal on paper is equal here."""
    found = {True: [], False: []}
    for i in range(len(x)):
        for j in range(i):
            found[bool(labels[i] == labels[j])].append(plain_cosine(x[i], x[j]))
    return found[True], found[False]


def plain_cosine(a, b):
    return round(float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)), 7)


@pytest.mark.parametrize("seed", range(6))
def test_equals_a_plain_double_loop_with_many_ties(seed):
    calibration, query = with_ties(seed, 25, 8), with_ties(100 + seed, 20, 7)
    distractors, _ = with_ties(200 + seed, 15, 3)
    _, calibration_negatives = plain_pairs(*calibration)
    positives, negatives = plain_pairs(*query)
    negatives += [plain_cosine(a, b) for a in query[0] for b in distractors]
    got = threshold_transfer(*calibration, *query, distractors, FPRS)
    assert got.fpr.tolist() == FPRS
    counts = (len(calibration_negatives), len(positives), len(negatives))
    assert (got.calibration_negatives, got.positives, got.negatives) == counts
    for i, fpr in enumerate(FPRS):
        k = math.floor(fpr * len(calibration_negatives) + 1e-9)
        cut = sorted(calibration_negatives, reverse=True)[k] if k else math.nan
        share = [sum(s > cut for s in kind) / len(kind) if k else math.nan for kind in (negatives, positives)]
        assert got.threshold[i].item() == pytest.approx(cut, abs=1e-6, nan_ok=True)
        assert (got.achieved_fpr[i].item(), got.tpr[i].item()) == pytest.approx(share, abs=1e-12, nan_ok=True)
    assert got.tpr.isnan().tolist() == [False] * 5 + [True]


def test_on_the_calibration_people_themselves_it_is_the_identification_rate():
    x, labels = with_ties(3, 40, 9)
    got, rate = threshold_transfer(x, labels, x, labels, x[:0], FPRS), identification_rate(x, labels, x[:0], FPRS)
    for name in ("fpr", "threshold", "achieved_fpr", "tpr"):
        torch.testing.assert_close(getattr(got, name), getattr(rate, name), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("block", [1, 3, 16, 1000])
def test_blocks_change_nothing(block):
    torch.manual_seed(0)
    parts = torch.randn(30, 8), torch.arange(30) % 7, torch.randn(15, 8), torch.arange(15) % 5, torch.randn(17, 8)
    whole, cut = threshold_transfer(*parts, FPRS), threshold_transfer(*parts, FPRS, block=block)
    for name in ("threshold", "achieved_fpr", "tpr"):
        torch.testing.assert_close(getattr(cut, name), getattr(whole, name), rtol=0, atol=0, equal_nan=True)


def test_people_who_look_more_alike_are_accepted_more_often():
    """Query people crowded into a cone: the threshold of spread people does not hold its rate."""
    torch.manual_seed(0)
    labels = torch.arange(200) // 4
    spread, crowded = (torch.randn(50, 16) + shift for shift in (0, 1))
    got = threshold_transfer(
        spread[labels] + 0.3 * torch.randn(200, 16),
        labels,
        crowded[labels] + 0.3 * torch.randn(200, 16),
        labels,
        torch.randn(100, 16) + 1,
        [0.1, 0.01],
    )
    assert (got.achieved_fpr > 3 * got.fpr).all()
    assert (got.tpr > got.achieved_fpr).all()


def test_nothing_to_measure_is_nan():
    x, labels = torch.eye(4), torch.arange(4)
    no_calibration = threshold_transfer(x[:0], labels[:0], x, labels, x, [0.1])
    assert no_calibration.calibration_negatives == 0
    for values in (no_calibration.threshold, no_calibration.achieved_fpr, no_calibration.tpr):
        assert values.isnan().all()
    empty = threshold_transfer(x, labels, x[:0], labels[:0], x, [0.5])
    assert (empty.positives, empty.negatives) == (0, 0)
    assert not empty.threshold.isnan().any()
    assert empty.achieved_fpr.isnan().all()
    no_negatives = threshold_transfer(x, labels, x, labels, x[:0], [0.5])
    assert no_negatives.achieved_fpr.tolist() == [0.0]
    assert no_negatives.tpr.isnan().all()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"calibration": torch.ones(2, 4)}, r"must be \[N, D\], \[Q, D\] and \[M, D\]"),
        ({"distractors": torch.ones(3)}, "must be"),
        ({"calibration_labels": torch.zeros(3)}, "query_labels"),
        ({"query_labels": torch.zeros(3)}, "query_labels"),
        ({"fprs": [0.0]}, "not between 0 and 1"),
        ({"query": torch.zeros(2, 3)}, "zero or not finite"),
        ({"calibration": torch.zeros(2, 3)}, "zero or not finite"),
        ({"distractors": torch.full((2, 3), math.nan)}, "zero or not finite"),
    ],
)
def test_bad_input(change, says):
    good = {name: torch.ones(2, 3) for name in ("calibration", "query", "distractors")}
    good |= {"calibration_labels": torch.zeros(2), "query_labels": torch.zeros(2), "fprs": [0.5]}
    with pytest.raises(ValueError, match=says):
        threshold_transfer(**(good | change))


@pytest.mark.parametrize("wrong", [0, 2, 4])
def test_the_three_sets_must_be_rows_of_one_width(wrong):
    good = [torch.randn(6, 4), torch.arange(6) % 2, torch.randn(6, 4), torch.arange(6) % 2, torch.randn(6, 4)]
    for other in (torch.randn(6, 4, 1), torch.randn(6), torch.randn(6, 3)):
        given = [other if i == wrong else part for i, part in enumerate(good)]
        with pytest.raises(ValueError, match=r"^calibration, query and distractors .* must be \[N, D\], \[Q, D\] and"):
            threshold_transfer(*given, [0.1])
