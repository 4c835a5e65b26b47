"""The bootstrap over people: each replicate equals the figure of the data set it stands for, built for real."""

import numpy as np
import pytest
import torch

from lossbench.metrics import identification_rate
from lossbench.metrics.bootstrap import (
    bootstrap_identification,
    bootstrap_share,
    multiplicities,
    replicates_for,
)
from lossbench.metrics.exact.pairs import scored_pairs

pytestmark = pytest.mark.usefixtures("each_way")

FPRS = [0.2, 0.1, 0.05]


def plain_rates(query, labels, distractors, others, drawn_query, drawn_others):
    """A replicate by plain loops over weighted pairs: (score, weight), sorted, walked until the rank is reached."""
    unit = [torch.nn.functional.normalize(x.double(), dim=1) for x in (query, distractors)]
    positives, negatives = [], []
    for i in range(len(query)):
        for j in range(i + 1, len(query)):
            score = round(float(unit[0][i] @ unit[0][j]) * 2**30)
            a, b = int(drawn_query[labels[i]]), int(drawn_query[labels[j]])
            if labels[i] == labels[j]:
                positives.append((score, a))
            else:
                negatives.append((score, a * b))
        for j in range(len(distractors)):
            score = round(float(unit[0][i] @ unit[1][j]) * 2**30)
            negatives.append((score, int(drawn_query[labels[i]] * drawn_others[others[j]])))
    negatives.sort(reverse=True)
    total = sum(weight for _, weight in negatives)
    found = []
    for fpr in FPRS:
        k, seen, threshold = int(fpr * total + 1e-9), 0, None
        for score, weight in negatives:
            seen += weight
            if seen >= k + 1:
                threshold = score
                break
        accepted = sum(weight for score, weight in positives if score > threshold)
        found.append(accepted / sum(weight for _, weight in positives))
    return found


def data(seed=0, people=6, each=4, others=5):
    torch.manual_seed(seed)
    centers = torch.randn(people, 5)
    labels = torch.arange(people * each) % people
    query = centers[labels] + 0.7 * torch.randn(people * each, 5)
    return query, labels, torch.randn(others * 3, 5), torch.arange(others * 3) % others


@pytest.mark.parametrize("seed", range(3))
def test_every_replicate_equals_plain_loops(seed):
    query, labels, distractors, others = data(seed)
    query[3] = query[9]  # ties
    names = [f"{seed}-{i}" for i in range(6)]
    drawn_query, drawn_others = multiplicities(names, 8), multiplicities([f"d{n}" for n in names[:5]], 8)
    got = bootstrap_identification(query, labels, distractors, others, drawn_query, drawn_others, FPRS)
    for row, a, b in zip(got, drawn_query, drawn_others, strict=True):
        assert row.tolist() == pytest.approx(plain_rates(query, labels, distractors, others, a, b))


def test_each_person_once_gives_the_figure_itself():
    query, labels, distractors, others = data()
    once = torch.ones(1, 6, dtype=torch.int64), torch.ones(1, 5, dtype=torch.int64)
    got = bootstrap_identification(query, labels, distractors, others, *once, FPRS)
    torch.testing.assert_close(got[0], identification_rate(query, labels, distractors, FPRS).tpr)


def test_share_is_that_of_the_resampled_people():
    hits, people = torch.tensor([1, 0, 1, 1, 0]).bool(), torch.tensor([0, 0, 1, 2, 2])
    drawn = torch.tensor([[1, 1, 1], [3, 0, 0], [0, 1, 2]])
    assert bootstrap_share(hits, people, drawn).tolist() == pytest.approx([3 / 5, 3 / 6, 3 / 5])


def test_a_person_is_drawn_equally_often_in_every_repeat():
    drawn, other = multiplicities(["a", "b", "c"], 50), multiplicities(["c", "d", "a"], 80)
    assert torch.equal(drawn[:, 0], other[:50, 2])
    assert torch.equal(drawn[:, 2], other[:50, 0])
    assert not torch.equal(drawn[:, 1], other[:50, 1])
    many = multiplicities([str(i) for i in range(30)], 400).double()
    assert many.mean().item() == pytest.approx(1.0, abs=0.03)
    assert many.var().item() == pytest.approx(1.0, abs=0.06)


def test_thinning_the_negatives_keeps_the_spread(monkeypatch):
    query, labels, distractors, others = data(people=20, each=6, others=20)
    drawn = multiplicities([f"q{i}" for i in range(20)], 300), multiplicities([f"d{i}" for i in range(20)], 300)
    whole = bootstrap_identification(query, labels, distractors, others, *drawn, [0.1])
    monkeypatch.setattr("lossbench.metrics.bootstrap._PAIRS", 1500)
    thin = bootstrap_identification(query, labels, distractors, others, *drawn, [0.1])
    assert thin.std().item() == pytest.approx(whole.std().item(), rel=0.2)
    assert thin.mean().item() == pytest.approx(whole.mean().item(), abs=0.03)


def test_spread_of_a_share_is_the_textbooks():
    rng = np.random.default_rng(0)
    hits = torch.from_numpy(rng.random(200) < 0.8)
    draws = bootstrap_share(hits, torch.arange(200), multiplicities([str(i) for i in range(200)], 2000))
    p = hits.double().mean().item()
    assert draws.std().item() == pytest.approx((p * (1 - p) / 200) ** 0.5, rel=0.06)


def test_large_sets_take_fewer_replicates():
    assert replicates_for(80, 80) == 1000
    assert replicates_for(3000, 3000) == 500
    assert replicates_for(1600, 0, [0.1]) == 625
    assert replicates_for(0, 10**6) == 1000
    assert replicates_for(1000, 2000, [0.05]) == 640
    assert replicates_for(10**6, 10**6, [0.9]) == 500, "no more negatives are kept"


def test_a_resample_that_does_not_support_an_operating_point_is_nan():
    """It counts the negatives of the resample, not of the data: 1 / N is the last rate that N of them support."""
    query, labels, distractors, others = data(people=4, each=2, others=3)
    drawn = torch.tensor([[1, 1, 1, 1], [2, 1, 0, 0], [0, 0, 0, 0], [3, 0, 0, 0]])
    beside = torch.tensor([[1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 0, 0]])
    negatives = []
    for own, other in zip(drawn * 2, beside * 3, strict=True):
        within = sum(int(own[i] * own[j]) for i in range(4) for j in range(i))
        negatives.append(within + int(own.sum() * other.sum()))
    assert negatives == [24 + 72, 8 + 36, 0, 18]
    for rate in (1 / 18, 1 / 44, 0.999 / 44, 1 / 96, 0.999 / 96):
        got = bootstrap_identification(query, labels, distractors, others, drawn, beside, [rate, 0.4])
        supported = [rate * n >= 1 - 1e-9 for n in negatives]
        assert (~got[:, 0].isnan()).tolist() == supported, rate


def test_a_resample_without_a_pair_of_one_person_has_no_rate():
    query, labels, distractors, others = torch.randn(3, 4), torch.tensor([0, 1, 1]), torch.randn(6, 4), torch.arange(6)
    drawn, beside = torch.tensor([[1, 0], [1, 1], [0, 2]]), torch.ones(3, 6, dtype=torch.int64)
    got = bootstrap_identification(query, labels, distractors, others, drawn, beside, [0.5])
    assert got[:, 0].isnan().tolist() == [True, False, False]


def test_a_threshold_beyond_the_kept_tail_is_nan_and_not_a_guess(monkeypatch):
    """Only the highest negatives are kept, of which a strange resample may have too few."""
    monkeypatch.setattr("lossbench.metrics.bootstrap._LARGEST", 0.0)
    query, labels, distractors, others = data(people=4, each=2, others=3)
    drawn, beside = torch.tensor([[3, 0, 0, 0]]), torch.tensor([[1, 0, 0]])
    alone = bootstrap_identification(query, labels, distractors, others, drawn, beside, [1 / 18])
    monkeypatch.setattr("lossbench.metrics.bootstrap._LARGEST", 0.4)
    with_more = bootstrap_identification(query, labels, distractors, others, drawn, beside, [1 / 18, 0.4])
    assert alone.isnan().all()
    assert not with_more.isnan().any()


@pytest.mark.parametrize(("block", "at_once"), [(1, 1), (4, 8), (64, 64)])
def test_blocks_of_pairs_change_nothing(monkeypatch, block, at_once):
    query, labels, distractors, others = data()
    drawn = multiplicities([f"q{i}" for i in range(6)], 20), multiplicities([f"d{i}" for i in range(5)], 20)
    whole = bootstrap_identification(query, labels, distractors, others, *drawn, FPRS)
    monkeypatch.setattr("lossbench.metrics.bootstrap._BLOCK", block)
    monkeypatch.setattr("lossbench.metrics.bootstrap._AT_ONCE", at_once)
    monkeypatch.setattr("lossbench.metrics.bootstrap._RUN", 2)
    assert torch.equal(bootstrap_identification(query, labels, distractors, others, *drawn, FPRS), whole)


def test_people_drawn_so_often_that_float32_would_round_are_counted_exactly():
    query, labels, distractors, others = data()
    drawn = multiplicities([f"q{i}" for i in range(6)], 20), multiplicities([f"d{i}" for i in range(5)], 20)
    often = [weights * 3001 + 1 for weights in drawn]
    found = bootstrap_identification(query, labels, distractors, others, *often, FPRS)
    plain = [plain_rates(query, labels, distractors, others, *one) for one in zip(*often, strict=True)]
    assert torch.equal(found, torch.tensor(plain, dtype=torch.float64))


LOW = [0.1, 0.01, 0.003]


@pytest.fixture
def many(monkeypatch):
    """19,800 negatives, of which a sample of 8,000 is taken, and draws of their people."""
    monkeypatch.setattr("lossbench.metrics.bootstrap._PAIRS", 2_000)
    monkeypatch.setattr("lossbench.metrics.bootstrap._SPARSE", 100)
    draws = multiplicities([f"q{i}" for i in range(20)], 60), multiplicities([f"d{i}" for i in range(20)], 60)
    return *data(people=20, each=6, others=36), *(draws[0], multiplicities([f"d{i}" for i in range(36)], 60))


def test_rates_of_which_a_sample_shows_little_take_the_highest_of_all_negatives(many, monkeypatch):
    sampled = bootstrap_identification(*many, LOW)
    with monkeypatch.context() as whole:
        whole.setattr("lossbench.metrics.bootstrap._PAIRS", 10**9)
        every = bootstrap_identification(*many, LOW)
    assert sampled[:, 1:].equal(every[:, 1:])
    assert not sampled[:, 0].equal(every[:, 0]), "the largest is sampled"
    assert not sampled.isnan().any()
    assert bootstrap_identification(*many, LOW[::-1]).equal(sampled.flip(1)), "in whatever order"


def test_the_spread_of_a_rate_does_not_depend_on_the_others(many):
    drawn = multiplicities([f"q{i}" for i in range(6)], 40), multiplicities([f"d{i}" for i in range(5)], 40)
    rates = [*LOW, 0.3, 0.9]
    for faces in (many, (*data(), *drawn)):
        together = bootstrap_identification(*faces, rates)
        for i, fpr in enumerate(rates):
            torch.testing.assert_close(
                bootstrap_identification(*faces, [fpr])[:, 0], together[:, i], rtol=0, atol=0, equal_nan=True
            )


def test_low_rates_alone_take_no_more_negatives_than_any(many, monkeypatch):
    """However low the rate, only the sample is computed pair by pair."""
    asked = []

    def counted(*words):
        asked.append(words[3])
        return scored_pairs(*words)

    monkeypatch.setattr("lossbench.metrics.bootstrap.scored_pairs", counted)
    alone = bootstrap_identification(*many, LOW[2:])
    assert asked == [8_000]
    assert alone.equal(bootstrap_identification(*many, LOW)[:, 2:])
