import math

import numpy as np
import pytest
import torch
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import accuracy_score, roc_auc_score, roc_curve
from sklearn.model_selection import KFold

from lossbench.metrics.verification import auc, best_threshold, equal_error_rate, pair_scores, roc, verification


def made(seed, count=600, ties=False):
    rng = np.random.default_rng(seed)
    same = rng.random(count) < 0.5
    scores = rng.normal(np.where(same, 0.5, 0.1), 0.25)
    scores = np.round(scores, 1 if ties else 6).astype(np.float32)
    return scores, same, np.arange(count) * 10 // count


def tensors(*arrays):
    return tuple(torch.from_numpy(np.asarray(a)) for a in arrays)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_folds_as_in_a_plain_loop_with_scikit_learn(seed, ties):
    scores, same, folds = made(seed, 90, ties=ties)
    accuracies = []
    for train, test in KFold(10, shuffle=False).split(scores):
        candidates = [*np.unique(scores[train]), scores[train].min() - 1]
        right = [accuracy_score(same[train], scores[train] > t) for t in candidates]
        best = max(t for t, r in zip(candidates, right, strict=True) if r == max(right))
        above = scores[train][scores[train] > best]
        threshold = (best + above.min()) / 2 if len(above) and best >= scores[train].min() else best
        accuracies.append(accuracy_score(same[test], scores[test] > threshold))
    found = verification(*tensors(scores, same, folds))
    assert found.fold_accuracies == pytest.approx(accuracies, abs=1e-12)
    assert found.accuracy == pytest.approx(np.mean(accuracies), abs=1e-12)
    assert found.standard_error == pytest.approx(np.std(accuracies, ddof=1) / math.sqrt(10), abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_equal_error_rate_as_scikit_learn_and_scipy(seed):
    scores, same, _ = made(seed)
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    expected = brentq(lambda x: 1 - x - interp1d(far, tar)(x), 0, 1)
    assert equal_error_rate(*tensors(scores.astype(float), same)) == pytest.approx(expected, abs=2 / len(scores))
    best = np.argmin(np.abs(far - (1 - tar)))
    assert equal_error_rate(*tensors(scores.astype(float), same)) == pytest.approx(far[best], abs=4 / len(scores))


def test_equal_error_rate_of_known_cases():
    def eer(scores, same):
        return equal_error_rate(torch.tensor(scores, dtype=torch.float64), torch.tensor(same))

    assert eer([0.9, 0.8, 0.1, 0.0], [True, True, False, False]) == 0
    assert eer([0.9, 0.8, 0.1, 0.0], [False, False, True, True]) == 1
    assert eer([0.5, 0.5, 0.5, 0.5], [True, True, False, False]) == 0.5
    assert eer([4.0, 3, 2, 1], [True, False, True, False]) == 0.5


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_roc_and_its_area_as_scikit_learn(seed, ties):
    scores, same, folds = made(seed, ties=ties)
    far, tar, _ = roc_curve(same, scores, drop_intermediate=False)
    found = roc(*tensors(scores, same))
    np.testing.assert_allclose(found.far.numpy(), far, rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.tar.numpy(), tar, rtol=0, atol=1e-15)
    assert len(found.threshold) == len(np.unique(scores)) + 1
    for threshold, x, y in zip(found.threshold.tolist(), far, tar, strict=True):
        assert (np.mean(scores[~same] > threshold), np.mean(scores[same] > threshold)) == pytest.approx((x, y))
    assert auc(*tensors(scores, same)) == pytest.approx(roc_auc_score(same, scores), abs=1e-14)
    assert verification(*tensors(scores, same, folds)).auc == auc(*tensors(scores, same))


def test_area_of_known_cases():
    same = torch.tensor([True, True, False, False])
    assert auc(torch.tensor([0.9, 0.8, 0.1, 0.0]), same) == 1
    assert auc(torch.tensor([0.0, 0.1, 0.8, 0.9]), same) == 0
    assert auc(torch.ones(4), same) == 0.5
    assert auc(torch.tensor([3, 1, 2, 1]), same) == (2 + 0.5) / 4


def test_thresholds_tell_neighbouring_numbers_apart():
    scores = torch.tensor([np.nextafter(0.3, 1), 0.3, np.nextafter(0.3, 0)], dtype=torch.float64)
    found = roc(scores, torch.tensor([True, False, True]))
    assert [int((scores > cut).sum()) for cut in found.threshold] == [0, 1, 2, 3]


@pytest.mark.parametrize("curve", [roc, auc])
def test_a_curve_of_nothing_is_refused(curve):
    with pytest.raises(ValueError, match="pairs of one person and pairs of two"):
        curve(torch.ones(2), torch.tensor([True, True]))
    with pytest.raises(ValueError, match="pairs of one person and pairs of two"):
        curve(torch.ones(0), torch.ones(0, dtype=torch.bool))
    with pytest.raises(ValueError, match="must both be"):
        curve(torch.ones(2), torch.tensor([True]))
    with pytest.raises(ValueError, match="not finite"):
        curve(torch.tensor([math.inf, 0]), torch.tensor([True, False]))


def test_tar_takes_the_rule_of_the_identification_rate():
    scores, same, folds = made(5, 8000)
    found = verification(*tensors(scores, same, folds), far=0.001)
    negatives = np.sort(scores[~same])[::-1]
    threshold = negatives[math.floor(0.001 * len(negatives) + 1e-9)]
    assert found.tar == np.mean(scores[same] > threshold)
    assert np.mean(scores[~same] > threshold) <= 0.001
    assert math.isnan(verification(*tensors(*made(5, 600)), far=0.001).tar)


def test_the_held_out_fold_does_not_choose_its_threshold():
    scores = torch.tensor([0.9, 0.1, 0.8, 0.2, 0.4, 0.6])
    same = torch.tensor([True, False, True, False, True, False])
    folds = torch.tensor([0, 0, 1, 1, 2, 2])
    found = verification(scores, same, folds)
    assert found.fold_accuracies[2] == 0.0  # 0.5 by the others' threshold 0.5: both are wrong
    assert (found.same, found.different) == (3, 3)


def test_a_threshold_is_strict_and_the_strictest():
    assert best_threshold(torch.tensor([0.9, 0.5, 0.1]), torch.tensor([True, False, False])) == pytest.approx(0.7)
    assert best_threshold(torch.tensor([0.9, 0.5]), torch.tensor([False, False])) == pytest.approx(0.9)
    assert best_threshold(torch.tensor([0.9, 0.5]), torch.tensor([True, True])) < 0.5


def test_order_and_scale_do_not_matter():
    scores, same, folds = made(1)
    order = np.random.default_rng(0).permutation(len(scores))
    one = verification(*tensors(scores, same, folds))
    other = verification(*tensors(scores[order] * 2 - 3, same[order], folds[order]))
    assert one.fold_accuracies == other.fold_accuracies
    assert (one.tar, one.eer) == pytest.approx((other.tar, other.eer), nan_ok=True)


def test_pair_scores_are_cosines():
    a, b = torch.randn(50, 16), torch.randn(50, 16)
    expected = [
        float(np.dot(x, y) / np.linalg.norm(x) / np.linalg.norm(y)) for x, y in zip(a.numpy(), b.numpy(), strict=True)
    ]
    np.testing.assert_allclose(pair_scores(a, b).numpy(), expected, atol=1e-6)
    assert torch.equal(pair_scores(a, b), pair_scores(4 * a, b / 8))
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    right_angles = torch.tensor([[1.0, 1, 1]] * 2), torch.tensor([[1.0, -1, 0], [1, 1, -2]])
    assert pair_scores(*(rows.double() @ turn for rows in right_angles)).tolist() == [0, 0]
    with pytest.raises(ValueError, match="zero or not finite"):
        pair_scores(torch.zeros(1, 4), torch.ones(1, 4))
    with pytest.raises(ValueError, match="must both be"):
        pair_scores(torch.ones(2, 4), torch.ones(1, 4))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": torch.tensor([0.1, math.nan])}, "not finite"),
        ({"same": torch.tensor([True, True])}, "pairs of one person and pairs of two"),
        ({"scores": torch.ones(2, 1), "same": torch.ones(2, 1).bool()}, r"must (all|both) be \[P\]"),
        ({"folds": torch.tensor([0, 0])}, "two folds"),
        ({"folds": torch.tensor([0, 1, 2])}, "must all be"),
        ({"far": 1.0}, "between 0 and 1"),
    ],
)
def test_what_cannot_be_measured_is_refused(change, message):
    good = {"scores": torch.tensor([0.1, 0.2]), "same": torch.tensor([True, False]), "folds": torch.tensor([0, 1])}
    with pytest.raises(ValueError, match=message):
        verification(**(good | change))


@pytest.mark.parametrize("measure", [roc, auc])
def test_scores_must_be_one_row_of_numbers_of_two_kinds(measure):
    scores, same = torch.tensor([0.1, 0.2]), torch.tensor([True, False])
    for wrong, says in [
        ((scores.view(2, 1), same.view(2, 1)), r"must both be \[P\]"),
        ((scores, same[:1]), r"must both be \[P\]"),
        ((scores * math.inf, same), "not finite"),
        ((scores, ~(same & ~same)), "pairs of one person and pairs of two"),
        ((scores, same & ~same), "pairs of one person and pairs of two"),
    ]:
        with pytest.raises(ValueError, match=says):
            measure(*wrong)


def test_a_rate_needs_one_different_pair_that_it_may_accept():
    scores, same = torch.linspace(1, 0, 12), torch.arange(12) % 4 == 3  # 9 different pairs, 3 of one person
    folds = torch.arange(12) % 2
    for far, tar in [(1 / 9, 0.0), (2 / 9, 0.0), (3 / 9, 1 / 3), (6 / 9, 2 / 3)]:
        assert verification(scores, same, folds, far=far).tar == pytest.approx(tar)
    assert math.isnan(verification(scores, same, folds, far=0.999 / 9).tar)
