"""Order statistics of a stream against sorting, with memory for a few scores only, so that every path is taken."""

import math

import numpy as np
import pytest
import torch

from lossbench.metrics.exact import order_statistics
from lossbench.metrics.exact.directions import GRID
from lossbench.metrics.exact.products import Tile

pytestmark = pytest.mark.usefixtures("each_way")

SLACK = 3e-5
ROWS, COLUMNS = 40, 160


def stream(scores, tile, passes, chance, errors="random"):
    """`scores` [N, M] float64, seen through float32 errors of nearly SLACK, in tiles of columns in random order.

    Errors are others in every pass: in a block of another width a sum is made in another order.
    """

    def tiles(number):
        passes.append(number)
        error = 2 * torch.rand(scores.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(number)) - 1
        if errors == "ends":
            error = error.sign()
        if errors == "high, then low":
            error = torch.full_like(error, (-1) ** number)
        noisy = (scores + SLACK * 0.97 * error).float()
        order = torch.randperm(scores.shape[1], generator=chance)
        for columns in torch.split(order, tile):
            yield lambda columns=columns: iter(
                [Tile(noisy[:, columns].contiguous(), 0, columns, len(noisy) * len(columns))]
            )

    return tiles


def every_rank(scores, ranks, *, kept, least, tile, monkeypatch, threads=1, errors="random"):
    """The order statistics found, how many passes it took, and what sorting says."""
    monkeypatch.setattr(order_statistics, "_LEAST", least)
    monkeypatch.setattr(order_statistics, "_AT_ONCE", 100)
    passes = []
    whole = (scores * GRID).round().to(torch.int64)
    found = order_statistics.order_statistics(
        stream(scores, tile, passes, torch.Generator().manual_seed(0), errors),
        lambda i, j: whole[i, j],
        ranks,
        whole.numel(),
        SLACK,
        scores.shape[1],
        kept=kept,
        threads=threads,
    )
    ordered = np.sort(whole.flatten().numpy())[::-1]
    expected = [(int(ordered[k]), int((ordered > ordered[k]).sum())) for k in ranks]
    return [tuple(one) for one in found], expected, len(passes)


def spread(kind):
    torch.manual_seed(3)
    scores = torch.randn(ROWS, COLUMNS, dtype=torch.float64) * 0.2
    if kind == "close":  # all within rounding error of one another: they must be told apart in float64
        scores = 0.5 + scores * 1e-6
    if kind == "few values":
        scores = (scores * 10).round() / 10
    if kind == "two values":
        scores = (scores > 0).double() * 0.9
    if kind == "one value":
        scores = torch.full_like(scores, 0.25)
    if kind.endswith("steps"):  # such as float32 can hardly tell, and cannot tell
        scores = torch.randint(-20, 20, scores.shape).double() * SLACK * (0.5 if kind == "small steps" else 2)
    if kind == "columns differ":
        scores += torch.randn(1, COLUMNS, dtype=torch.float64)
    return scores.clamp(-1, 1)


RANKS = [0, 1, 29, 700, 3200, 6399]
KINDS = ["spread", "close", "few values", "two values", "one value", "columns differ"]
KINDS += ["steps", "small steps"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("kept", "tile", "threads"), [(10**6, 50, 1), (1000, 25, 1), (1000, 25, 3), (300, 9, 1), (300, 9, 3), (90, 8, 1)]
)
def test_equals_sorting_whatever_fits_in_memory(kind, kept, tile, threads, monkeypatch):
    found, expected, _ = every_rank(
        spread(kind), RANKS, kept=kept, least=kept // 30, tile=tile, monkeypatch=monkeypatch, threads=threads
    )
    assert found == expected


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("errors", ["ends", "high, then low"])
@pytest.mark.parametrize(("kept", "crowd"), [(1000, 3), (90, 3), (90, 1)])
def test_errors_as_far_as_they_go_and_others_in_each_pass_change_nothing(kind, errors, kept, crowd, monkeypatch):
    monkeypatch.setattr(order_statistics, "_CROWD", crowd)
    found, expected, passes = every_rank(
        spread(kind), RANKS, kept=kept, least=kept // 30, tile=17, monkeypatch=monkeypatch, errors=errors
    )
    assert found == expected
    assert passes < 12


def tiny(seed, monkeypatch):
    """What is found and what sorting says for a few scores, closer than float32 tells, with little memory."""
    chance = np.random.default_rng(seed)
    shape = int(chance.integers(1, 30)), int(chance.integers(1, 60))
    step = SLACK * float(chance.choice([0.5, 1, 2, 3]))
    scores = torch.from_numpy(chance.integers(-20, 21, shape) * step)
    monkeypatch.setattr(order_statistics, "_FEW", int(chance.choice([0, 1, 4])))
    monkeypatch.setattr(order_statistics, "_CROWD", int(chance.choice([1, 3])))
    found, expected, _ = every_rank(
        scores,
        sorted(set(chance.integers(0, scores.numel(), 4).tolist())),
        kept=int(chance.choice([1, 5, 40, 300])),
        least=int(chance.choice([1, 5, 50])),
        tile=int(chance.choice([1, 3, 10, 60])),
        monkeypatch=monkeypatch,
        errors=str(chance.choice(["random", "ends", "high, then low"])),
    )
    return found, expected


def test_a_few_scores_that_float32_cannot_separate(monkeypatch):
    """With either check in `settle` left out, some of these are wrong."""
    for seed in range(80):
        found, expected = tiny(seed, monkeypatch)
        assert found == expected, seed


@pytest.mark.parametrize("rank", [-1, 6400])
def test_a_rank_beyond_the_scores_is_refused(rank, monkeypatch):
    with pytest.raises(ValueError, match=r"is not in 0\.\.6399"):
        every_rank(spread("spread"), [5, rank], kept=90, least=3, tile=17, monkeypatch=monkeypatch)


def test_one_pass_is_enough_where_columns_are_alike_and_more_are_made_where_not(monkeypatch):
    settings = {"kept": 3000, "least": 1, "tile": 10, "monkeypatch": monkeypatch}
    assert every_rank(spread("spread"), [700], **settings)[2] == 1
    late = -torch.rand(ROWS, COLUMNS, dtype=torch.float64)
    last = torch.randperm(COLUMNS, generator=torch.Generator().manual_seed(0))[-10:]
    late[:, last] = torch.rand(ROWS, 10, dtype=torch.float64)
    found, expected, passes = every_rank(late, [100, 250], **settings | {"kept": 200})
    assert found == expected
    assert passes > 1, "the last columns were to change everything"


@pytest.mark.parametrize(("kept", "tile"), [(1, 1), (1, 3), (2, 2), (2, 7)])
def test_a_rank_that_escapes_the_same_way_again_is_found_all_the_same(kept, tile, monkeypatch):
    """The worst order there is, in every pass: each score is below all before it."""
    monkeypatch.setattr(order_statistics, "_LEAST", kept)
    scores = torch.linspace(0.9, -0.9, 40).reshape(1, 40)
    whole = (scores.double() * GRID).round().to(torch.int64)

    def tiles(number):
        assert number < 20, "it never ends"
        for columns in torch.split(torch.arange(40), tile):
            yield lambda columns=columns: iter([Tile(scores[:, columns].contiguous(), 0, columns, len(columns))])

    for rank in range(40):
        (found,) = order_statistics.order_statistics(tiles, lambda i, j: whole[i, j], [rank], 40, SLACK, 40, kept=kept)
        assert tuple(found) == (int(whole[0, rank]), rank)


def test_scores_that_do_not_count_are_skipped(monkeypatch):
    scores = spread("spread").float()
    scores[::2] = math.nan
    half = scores.numel() // 2

    def tiles(number):
        yield lambda: iter([Tile(scores, 0, torch.arange(COLUMNS), half)])

    whole = (scores.double() * GRID).round().nan_to_num(0).to(torch.int64)
    found = order_statistics.order_statistics(tiles, lambda i, j: whole[i, j], [100], half, SLACK, COLUMNS)
    assert found[0].score == int(whole[1::2].flatten().sort(descending=True).values[100])


@pytest.mark.parametrize("seed", range(40))
def test_scores_a_margin_apart_are_not_lost(seed):
    """Scores in steps of just the margin: rounding puts some of them on its very edge."""
    torch.manual_seed(seed)
    steps = (0.3 + torch.rand(1).item()) + torch.arange(-50, 50, dtype=torch.float64) * 2 * SLACK
    scores = (steps.float() + torch.randint(-2, 3, (100,)) * 2.0**-24).reshape(10, 10)
    whole = (scores.double() * GRID).round().to(torch.int64)

    def tiles(number):
        yield lambda: iter([Tile(scores.clone(), 0, torch.arange(10), 100)])

    found = order_statistics.order_statistics(tiles, lambda i, j: whole[i, j], list(range(100)), 100, SLACK, 10)
    assert [one.score for one in found] == whole.flatten().sort(descending=True).values.tolist()
