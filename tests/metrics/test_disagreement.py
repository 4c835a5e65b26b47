"""disagreements against a plain double loop, on data full of exact ties."""

import math

import numpy as np
import pytest
import torch

from lossbench.metrics import identification_rate
from lossbench.metrics.disagreement import Kind, disagreements

pytestmark = pytest.mark.usefixtures("each_way")

MOST = 6


def with_ties(seed, count, dim):
    rng = np.random.default_rng(seed)
    x = rng.integers(-2, 3, (count, dim)).astype(np.float64)
    x[~x.any(1)] = 1.0
    return torch.from_numpy(x)


def on_grid(a, b):
    return round(float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)) * 2**30)


def plain(first, second, labels, thresholds):
    """All pairs of each kind, the clearest first, in whole steps of the grid."""
    queries, cuts = len(labels), [round(t * 2**30) for t in thresholds]
    one, two = torch.cat(first), torch.cat(second)
    found = {Kind(same, accepts): [] for same in (True, False) for accepts in (True, False)}
    for i in range(queries):
        for j in range(i + 1, len(one)):
            a, b = on_grid(one[i], one[j]), on_grid(two[i], two[j])
            if (a > cuts[0]) != (b > cuts[1]):
                above, below = (a - cuts[0], cuts[1] - b) if a > cuts[0] else (b - cuts[1], cuts[0] - a)
                same = j < queries and bool(labels[i] == labels[j])
                found[Kind(same, a > cuts[0])].append((-min(above - 1, below), i, j, a, b))
    return {kind: sorted(rows) for kind, rows in found.items()}


def data(seed, queries=24, distractors=17):
    first = with_ties(seed, queries, 3), with_ties(seed + 50, distractors, 3)
    second = with_ties(seed + 100, queries, 5), with_ties(seed + 150, distractors, 5)
    return first, second, torch.from_numpy(np.random.default_rng(seed).integers(0, 6, queries))


@pytest.mark.parametrize("block", [4, 20, None])
@pytest.mark.parametrize("seed", range(4))
def test_equals_a_plain_double_loop_with_many_ties(seed, block):
    first, second, labels = data(seed)
    thresholds = 0.5, on_grid(second[0][0], second[0][1]) / 2**30  # a cosine that occurs
    got = disagreements(first, second, labels, thresholds, MOST, block=block)
    for kind, rows in plain(first, second, labels, thresholds).items():
        own = got[kind]
        assert own.total == len(rows) > 0
        parts = own.rows, own.columns, (own.first * 2**30).round(), (own.second * 2**30).round()
        assert [tuple(map(int, row)) for row in zip(*parts, strict=True)] == [row[1:] for row in rows[:MOST]]


def test_counts_agree_with_the_identification_rates():
    first, second, labels = data(9, queries=80, distractors=60)
    rates = [identification_rate(query, labels, others, [0.05]) for query, others in (first, second)]
    got = disagreements(first, second, labels, (rates[0].threshold.item(), rates[1].threshold.item()))
    for same, total, name in ((True, rates[0].positives, "tpr"), (False, rates[0].negatives, "achieved_fpr")):
        accepted = [getattr(rate, name).item() * total for rate in rates]
        more = got[Kind(same, True)].total - got[Kind(same, False)].total
        assert more == pytest.approx(accepted[0] - accepted[1])


def test_a_loss_never_disagrees_with_itself():
    first, _, labels = data(3)
    assert [own.total for own in disagreements(first, first, labels, (0.5, 0.5)).values()] == [0] * 4


def test_embeddings_of_other_images_are_refused():
    first, second, labels = data(4)
    with pytest.raises(ValueError, match="must be of the same images"):
        disagreements(first, (second[0], second[1][:-1]), labels, (0.5, 0.5))
