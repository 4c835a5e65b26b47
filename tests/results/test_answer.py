"""The answer in words, from made-up studies whose right answer is known."""

import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
from support import changed, known_record

from lossbench.results.answer import answer
from lossbench.results.study import Study
from lossbench.results.verdicts import Decided, verdicts


def study(losses, negatives=None):
    """Make a study of figures by loss: (accuracy, ID rate) of each repeat, None where it failed.

    The ID rate is the same at FPR 0.1 and 0.01, and not supported at 0.001.
    """
    records = []
    for name, repeats in {"untrained": [(0.1, 0.2)] * 2, **losses}.items():
        for i, figures in enumerate(repeats):
            made = known_record(name, i, *(figures or (0, 0)), status="finished" if figures else "failed", reason="nan")
            records.append(changed(made, ("metrics", "negatives"), negatives) if negatives and figures else made)
    return Study(tuple(records), {})


def said(losses, **options):
    made = study(losses, **options)
    return answer(made, verdicts(made))


def around(accuracy, rate, noise=(0.001, -0.001, 0.0005), shift=0.0):
    return [(accuracy + shift + n, rate + shift + n) for n in noise]


SETTLED = "Every comparison is settled: more repeats would change nothing that matters."


def test_one_loss_has_nothing_to_be_compared_with():
    assert said({"ce": around(0.9, 0.8)}) == [
        "There is nothing to compare: ce is the only loss with a result (ID rate @ FPR 0.1: 0.800 for ce)."
    ]


def test_nothing_finished():
    assert said({"ce": [None, None], "arcface": [None]}) == [
        "There is nothing to compare: ce and arcface failed in every repeat."
    ]
    assert said({"ce": [None], "arcface": [(0.5, 0.4)]}) == [
        "There is nothing to compare: arcface is the only loss with a result (ID rate @ FPR 0.1: 0.400 for arcface); "
        "ce failed in every repeat."
    ]
    assert said({}) == ["There is nothing to compare: no loss was trained."]


def test_losses_that_have_not_helped_come_first():
    first = said({"untrained": [(0.5, 0.7)] * 3, "ce": around(0.9, 0.8), "arcface": around(0.4, 0.6)})[0]
    assert first == (
        "Training has not helped everywhere: arcface is no better than the untrained network in ID rate @ FPR 0.1 "
        "(0.600 against 0.700), @ 0.01 (0.600 against 0.700) and accuracy by class means (0.400 against 0.500)."
    )
    assert said({"untrained": [(0.5, 0.7)], "ce": [(0.6, 0.7)]})[0] == (
        "Training has not helped everywhere: ce is no better than the untrained network in ID rate @ FPR 0.1 (0.700 "
        "against 0.700) and @ 0.01 (0.700 against 0.700)."
    )
    assert "untrained" not in " ".join(said({"ce": around(0.9, 0.8), "arcface": around(0.4, 0.6)}))


def test_one_repeat_needs_a_second():
    assert said({"ce": [(0.7, 0.6)], "arcface": [(0.8, 0.65)], "triplet": [None]}) == [
        "ce and arcface cannot be compared yet (ID rate @ FPR 0.1: 0.650 for arcface and 0.600 for ce): no two of them "
        "have finished two repeats in common, and another seed may reverse their order; a second repeat is needed; "
        "triplet failed in every repeat."
    ]


def test_equal_losses_are_equivalent():
    assert said({"ce": [(0.9, 0.8)] * 3, "arcface": [(0.9, 0.8)] * 3}) == [
        "No loss is ahead of another in ID rate @ FPR 0.1, @ 0.01 and accuracy by class means.",
        "ce and arcface are equivalent in ID rate @ FPR 0.1 (0.800 and 0.800), @ 0.01 (0.800 and 0.800) and accuracy "
        "by class means (0.900 and 0.900): with 95 % confidence they differ by less than 0.02.",
        SETTLED,
    ]


def test_a_clear_winner():
    losses = {"ce": around(0.9, 0.8), "arcface": around(0.9, 0.5, (0, 0, 0)), "cosface": around(0.9, 0.5, (0, 0, 0))}
    assert said(losses)[0] == (
        "ce is ahead of arcface and cosface in ID rate @ FPR 0.1 (0.800 against 0.500 and 0.500) and @ 0.01 (0.800 "
        "against 0.500 and 0.500)."
    )
    assert said(losses)[1] == (
        "arcface and cosface are equivalent in ID rate @ FPR 0.1 (0.500 and 0.500) and @ 0.01 (0.500 and 0.500); ce, "
        "arcface and cosface are equivalent in accuracy by class means (0.900, 0.900 and 0.900): with 95 % confidence "
        "they differ by less than 0.02."
    )
    assert said(losses)[2:] == [SETTLED]


def test_a_small_lead_is_called_small():
    (first, *_) = said({"ce": around(0.9, 0.8), "arcface": around(0.9, 0.79, (0, 0.001, 0))})
    assert first == (
        "ce is ahead of arcface in ID rate @ FPR 0.1 (0.800 against 0.790, less than 0.02 apart) and @ 0.01 (0.800 "
        "against 0.790, less than 0.02 apart)."
    )


def test_accuracy_and_identification_disagree_by_verdicts():
    found = said({"ce": around(0.7, 0.8), "arcface": around(0.8, 0.5, (0, 0.001, 0))})
    assert found[0].startswith("ce is ahead of arcface in ID rate @ FPR 0.1 (0.800 against 0.500)")
    assert "arcface is ahead of ce in accuracy by class means (0.800 against 0.700)" in found[0]
    assert found[1:] == [
        "Accuracy and identification disagree: ce is ahead of arcface in ID rate @ FPR 0.1 (0.800 against 0.500) but "
        "behind in accuracy by class means (0.700 against 0.800).",
        SETTLED,
    ]


NOISE = (0.08, -0.08, 0.01), (-0.05, 0.06, -0.08)


def test_accuracy_and_identification_disagree_by_their_means():
    noisy = [[(0.7 + a, r) for a, (_, r) in zip(NOISE[0], around(0, 0.8), strict=True)]]
    noisy += [[(0.75 + a, r) for a, (_, r) in zip(NOISE[1], around(0, 0.5, (0, 0, 0)), strict=True)]]
    found = said(dict(zip(("ce", "arcface"), noisy, strict=True)))
    assert found[1] == (
        "Accuracy and identification disagree: ce is ahead of arcface in ID rate @ FPR 0.1 (0.800 against 0.500), but "
        "its accuracy by class means is lower (0.703 against 0.727), a gap that these repeats do not confirm."
    )
    noisy[1] = [(accuracy - 0.01, rate) for accuracy, rate in noisy[1]]
    assert "disagree" not in " ".join(said(dict(zip(("ce", "arcface"), noisy, strict=True)))), "0.013 does not matter"
    swapped = [[(rate, accuracy) for accuracy, rate in own] for own in noisy]
    swapped[1] = [(accuracy, rate + 0.01) for accuracy, rate in swapped[1]]
    assert (
        "ce is ahead of arcface in accuracy by class means (0.800 against 0.500), but its ID rate @ FPR 0.1 is lower "
        "(0.703 against 0.727)" in said(dict(zip(("ce", "arcface"), swapped, strict=True)))[1]
    )


def test_what_is_open_says_what_would_settle_it():
    losses = {"ce": [(0.5, 0.60), (0.5, 0.80)], "arcface": [(0.5, 0.50), (0.5, 0.58)], "b": [(0.9, 0.9)], "c": [None]}
    found = said(losses)
    assert found[0] == "No loss is ahead of another in ID rate @ FPR 0.1, @ 0.01 and accuracy by class means."
    assert found[1] == (
        "ce and arcface cannot be told apart in ID rate @ FPR 0.1 (0.700 and 0.540) and @ 0.01 (0.700 and 0.540)."
    )
    assert re.fullmatch(
        r"If the differences seen are the true ones, (\d) repeats in all have an even chance of settling the 2 "
        r"comparisons still open over all 3 figures compared \(ce and arcface in ID rate @ FPR 0.1 first\); b has one "
        r"finished repeat and needs a second to be compared; c failed in every repeat\.",
        found[-1],
    )


def test_what_looks_have_not_decided_takes_another_repeat():
    """A look at growing data spends a part of the level, so a difference that one test would find stays open."""
    made = study({"ce": around(0.9, 0.8), "arcface": around(0.9, 0.7, (0.001, 0.0, -0.002))})
    found = [replace(v, decided=Decided(None, equivalent=False)) for v in verdicts(made)]
    assert all(v.difference.repeats_to_separate(v.each) == 3 for v in found if v.figure.point)
    assert answer(made, found)[0].startswith("No loss is ahead of another")
    assert "differences seen are the true ones, 4 repeats in all have an even chance" in answer(made, found)[-1]


def test_an_early_look_that_the_means_speak_against_is_named():
    made = study({"ce": around(0.9, 0.8), "arcface": around(0.9, 0.7), "cosface": around(0.9, 0.78)})
    ahead = {("ce", "arcface"): "arcface", ("ce", "cosface"): "ce"}
    decided = {
        pair: Decided(ahead.get(pair), equivalent=pair[0] == "arcface")
        for pair in itertools.combinations(made.trained, 2)
    }
    found = [replace(v, decided=decided[v.a, v.b]) for v in verdicts(made) if v.figure.key == "tpr@0.1"]
    assert [v.contradicted for v in found] == [True, False, True]
    assert answer(made, found)[-1] == (
        "Every comparison is settled: more repeats would change nothing that matters; the means of all repeats speak "
        "against what an early look decided on ce and arcface in ID rate @ FPR 0.1 and arcface and cosface in ID rate "
        "@ FPR 0.1."
    )


def test_where_people_decide_no_repeats_are_asked_for():
    rng = np.random.default_rng(0)
    made = study({"ce": around(0.5, 0.62), "arcface": around(0.5, 0.60)})
    drawn = {"ce": rng.normal(0.62, 0.1, 200), "arcface": rng.normal(0.6, 0.1, 200)}
    resamples = {(name, r): {"tpr@0.1": drawn[name], "tpr@0.01": drawn[name]} for name in drawn for r in range(3)}
    made = Study(made.records, resamples)
    assert answer(made, verdicts(made))[-1] == (
        "More repeats alone would not settle the 2 comparisons still open over all 3 figures compared: more "
        "people are needed."
    )


def test_thin_points_are_called_thin_and_unsupported_ones_are_not_named():
    found = said({"ce": around(0.9, 0.8), "arcface": around(0.9, 0.5, (0, 0, 0))}, negatives=150)
    assert found[0] == (
        "ce is ahead of arcface in ID rate @ FPR 0.1 (0.800 against 0.500) and @ 0.01 (0.800 against 0.500; thin: 1 "
        "negative above the threshold)."
    )
    assert "0.001" not in " ".join(found)


def test_many_losses_are_grouped_and_counted():
    noise = iter(np.random.default_rng(3).normal(0, 0.01, (8, 4)))
    losses = {name: [(0.9, 0.8 + n) for n in next(noise)] for name in "abcdef"}
    losses |= {name: [(0.9, 0.3 + n) for n in next(noise)] for name in "gh"}
    found = said(losses)
    numbers = r"\(0\.\d+ to 0\.\d+ against 0\.\d+ and 0\.\d+\)"
    assert re.match(rf"a, b, c, d, e and f are ahead of g and h in ID rate @ FPR 0\.1 {numbers} and @ ", found[0])
    assert found[1].startswith("a, b, c, d, e and f cannot be told apart in ID rate @ FPR 0.1 (0.79")
    alone = said({name: own for name, own in losses.items() if name in "abcdef"})
    assert alone[1].startswith("No two of the 6 losses compared can be told apart in ID rate @ FPR 0.1 (0.79")
    ladder = said({name: around(0.9, 0.9 - 0.1 * i, np.roll((0.001, 0, 0), i)) for i, name in enumerate("abcdef")})
    assert ladder[0].startswith("a is ahead of b, c, d, e and f in ID rate @ FPR 0.1 (0.900 against 0.400 to 0.800)")
    assert ladder[0].endswith("; 6 more in the verdicts."), "3 pairs below the first three losses, at two rates"


def test_numbers_are_those_of_the_repeats_in_common():
    found = said({"a": around(0.9, 0.8), "b": [*around(0.9, 0.5, (0, 0)), None]})
    assert "ID rate @ FPR 0.1 (0.800 against 0.500)" in found[0], "of the first two repeats, which both have"
    found = said({"a": [(0.9, 0.8), (0.9, 0.802), (0.9, 0.1)], "b": [(0.9, 0.5), (0.9, 0.501), None]})
    assert "(0.801 against 0.500)" in " ".join(found)


@pytest.mark.parametrize(("count", "repeats"), list(itertools.product((2, 3, 5, 9), (2, 4))))
def test_whatever_the_figures_there_are_at_most_five_sentences_without_impossible_numbers(count, repeats):
    rng = np.random.default_rng(count * repeats)
    for _ in range(6):
        level = rng.uniform(0.2, 0.8, (count, 1, 2))
        drawn = np.clip(level + rng.normal(0, rng.choice([0.001, 0.03]), (count, repeats, 2)), 0, 1)
        losses = {f"l{i}": [tuple(v) if rng.random() < 0.9 else None for v in own] for i, own in enumerate(drawn)}
        found = said(losses, negatives=int(rng.integers(100, 5000)))
        assert 1 <= len(found) <= 5
        for sentence in found:
            assert sentence.endswith(".")
            assert not any(fault in sentence for fault in ("..", "nan", "  ", " ,", " ;"))
            assert sentence.count("(") == sentence.count(")")
            assert all(float(number) <= 1 for number in re.findall(r"\b\d\.\d{3}\b", sentence))
        repeats_named = re.findall(r"(\S+) repeats in all", " ".join(found))
        assert all(int(number.replace(",", "")) <= 1000 for number in repeats_named)


def test_many_losses_are_named_by_those_left_out():
    noise = iter(np.random.default_rng(3).normal(0, 0.01, (9, 4)))
    losses = {f"l{i}": [(0.9, (0.3 if i == 3 else 0.8) + n) for n in next(noise)] for i in range(8)}
    found = said(losses)
    assert found[0].startswith("All others are ahead of l3 in ID rate @ FPR 0.1 (0.79")
    assert found[1].startswith("No two of the 7 losses other than l3 can be told apart in ID rate @ FPR 0.1 (0.79")
    assert "l0, l1, l2, l4" not in " ".join(found)
