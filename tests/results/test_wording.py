"""The parts of sentences: groups that cover pairs, figures named with their numbers."""

from itertools import combinations

import numpy as np
from support import STUDY

from lossbench.results.metric_fields import metric
from lossbench.results.wording import groups, means, named, numbers, places


def test_groups_cover_exactly_the_pairs_and_count_each_once():
    rng = np.random.default_rng(0)
    for _ in range(50):
        names = "abcdefg"
        pairs = {frozenset(pair) for pair in combinations(names, 2) if rng.random() < 0.6}
        found = groups(names, pairs)
        assert {frozenset(pair) for group, _ in found for pair in combinations(group, 2)} == pairs
        assert sum(count for _, count in found) == len(pairs)
        assert all(count > 0 and group == sorted(group) for group, count in found)
    assert groups("abc", set()) == []


def test_means_are_over_the_repeats_that_all_have():
    accuracy = metric("test_accuracy")
    assert means(STUDY, ["b"], accuracy) == [np.mean([0.8, 0.8011, 0.802, 0.8031])]
    b, c = means(STUDY, ["b", "c"], accuracy)
    assert (b, c) == (np.mean([0.8, 0.8011, 0.802]), np.mean([1.0, 0.8, 1.0])), "c has failed in repeat 4"
    assert numbers(STUDY, ["b"], accuracy, against=["c"]) == "0.801 against 0.933"
    assert numbers(STUDY, ["a", "b", "c", "untrained"], accuracy) == "0.300 to 0.933"


def test_only_the_first_operating_point_is_named_in_full():
    figures = [(metric(key), text) for key, text in (("test_accuracy_ncm", "1"), ("tpr@0.1", ""), ("tpr@1e-05", "2"))]
    assert places(figures, STUDY) == "accuracy by class means (1), ID rate @ FPR 0.1 and @ 1e-5 (2)"
    assert places(figures[2:], STUDY) == "ID rate @ FPR 1e-5 (2)"


def test_many_losses_are_named_by_those_left_out_or_counted():
    assert named("abcdef", "abcdefgh", "or") == "a, b, c, d, e or f"
    assert named("abcdefg", "abcdefgh") == "all losses other than h"
    assert named("abcdefg", "abcdefgh", every="all others") == "all others except h"
    assert named("abcdefg", "abcdefg", every="all others") == "all others"
    assert named("abcdefg", "abcdefghijkl") == "all losses other than h, i, j, k and l"
    assert named("abcdefg", "abcdefghijklm", "or") == "a, b, c or 4 more"
