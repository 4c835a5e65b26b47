"""The pairs of a query set against plain loops: each once, with its score, whatever the blocks."""

import pytest
import torch
from tracing import Allocations

from lossbench.metrics.exact.directions import GRID, Directions
from lossbench.metrics.exact.pairs import Pairs, highest_pairs, scored_pairs
from lossbench.metrics.exact.products import full_precision

pytestmark = pytest.mark.usefixtures("each_way")

QUERY, OTHERS = 40, 25


def made(block=16, dim=3):
    """Pairs of 40 query images of 7 people and 25 distractors; the labels; float64 cosines [40, 65] in 1/GRID."""
    torch.manual_seed(0)
    labels, query, others = torch.randint(0, 7, (QUERY,)), torch.randn(QUERY, dim), torch.randn(OTHERS, dim) * 9
    every = torch.cat([query, others]).double()
    cosines = torch.nn.functional.cosine_similarity(every[:QUERY].unsqueeze(1), every.unsqueeze(0), dim=2) * GRID
    return Pairs(Directions(query), labels, Directions(others), block), labels.tolist(), cosines


def same_people(labels):
    return {(i, j) for i in range(QUERY) for j in range(i) if labels[i] == labels[j]}


def others(labels):
    return {(i, j) for i in range(QUERY) for j in range(i + 1, QUERY + OTHERS) if j >= QUERY or labels[i] != labels[j]}


def test_pairs_are_counted_as_a_plain_loop_counts_them():
    pairs, labels, _ = made()
    assert pairs.same == len(same_people(labels))
    assert pairs.total == len(others(labels))
    assert pairs.within == sum(j < QUERY for _, j in others(labels))


@pytest.mark.parametrize("dim", [3, 512])
@pytest.mark.parametrize("width", [7, 32, 8192])
def test_products_give_the_bits_of_pairs_computed_one_by_one(dim, width, monkeypatch):
    monkeypatch.setattr("lossbench.metrics.exact.pairs._ROWS", 16)
    monkeypatch.setattr("lossbench.metrics.exact.pairs._WIDTH", width)
    pairs, _, _ = made(dim=dim)
    rows, columns = pairs.negatives(10**6)
    one_by_one = pairs._one_by_one(rows, columns)
    assert len(rows) * 16 > QUERY * (QUERY + OTHERS), "a large share"
    assert pairs.exact(rows, columns).equal(one_by_one)
    few = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:300]
    assert pairs._by_products(rows[few], columns[few]).equal(one_by_one[few])


def test_products_near_half_a_step_are_computed_one_by_one(monkeypatch):
    pairs, _, _ = made()
    rows, columns = pairs.negatives(10**6)
    whole = pairs.exact(rows, columns)
    doubted = []
    one_by_one = pairs._one_by_one
    monkeypatch.setattr(pairs, "_one_by_one", lambda i, j: doubted.append(len(i)) or one_by_one(i, j))
    monkeypatch.setattr(Directions, "doubt", 0.25)  # half of them
    assert pairs._by_products(rows, columns).equal(whole)
    assert 0.4 < sum(doubted) / len(rows) < 0.6


def test_products_take_some_columns_at_a_time(monkeypatch):
    """Few rows with very many distractors: these are never all in float64 at once, nor all their products."""
    monkeypatch.setattr("lossbench.metrics.exact.pairs._WIDTH", 64)
    chance = torch.Generator().manual_seed(0)
    query, distractors = torch.randn(4, 8, generator=chance), torch.randn(20_000, 8, generator=chance)
    pairs = Pairs(Directions(query), torch.arange(4), Directions(distractors))
    rows, columns = pairs.negatives(200)
    with Allocations([query, distractors, pairs.query.norms, pairs.distractors.norms]) as allocations:
        found = pairs._by_products(rows, columns)
    assert found.equal(pairs._one_by_one(rows, columns))
    assert allocations.peak < 100_000, "bytes; the distractors alone take 1.28 million in float64"


def test_positives_are_all_pairs_of_one_person_with_their_scores():
    pairs, labels, cosines = made()
    found = [
        pair for scores, people in pairs.positives() for pair in zip(scores.tolist(), people.tolist(), strict=True)
    ]
    expected = sorted((round(cosines[i, j].item()), labels[i]) for i, j in same_people(labels))
    assert sorted(found) == expected


@pytest.mark.parametrize("block", [4, 16, 1000])
def test_every_negative_lies_in_one_tile_with_its_score(block):
    pairs, labels, cosines = made(block)
    seen, counted = [], 0
    with full_precision():
        for job in pairs.jobs(0):
            for tile in job():
                counted += tile.pairs
                for row, column in (~tile.scores.isnan()).nonzero().tolist():
                    i, j = tile.rows + row, int(tile.columns[column])
                    seen.append((i, j))
                    assert tile.scores[row, column].item() == pytest.approx(cosines[i, j].item() / GRID, abs=1e-6)
    assert len(seen) == len(set(seen)) == counted
    assert set(seen) == others(labels)


@pytest.mark.parametrize("kept", [0, 25])
@pytest.mark.parametrize("wide", [False, True])
def test_wide_blocks_begin_narrow_since_every_score_of_the_first_is_kept(kept, wide, monkeypatch):
    for name, columns in {"BLOCK": 10**4 if wide else 8, "_START": 3}.items():
        monkeypatch.setattr("lossbench.metrics.exact.pairs." + name, columns)
    torch.manual_seed(0)
    pairs = Pairs(Directions(torch.randn(40, 3)), torch.arange(40) % 7, Directions(torch.randn(kept, 3)), 1000)
    with full_precision():
        widths = [len(next(job()).columns) for job in pairs.jobs(0)]
    assert sum(widths) == 40 + kept
    assert len(widths) <= 2 if wide else widths[:4] == [3, 3, 3, 3]


@pytest.mark.parametrize("block", [8, 1000])
def test_pairs_above_a_cut_are_those_of_a_plain_loop(block):
    pairs, labels, cosines = made(block)
    kinds = [torch.tensor([round(cosines[p].item()) for p in kind(labels)]) for kind in (same_people, others)]
    largest, middle = int(kinds[1].max()), int(kinds[1].median())
    cuts = [-GRID, -GRID // 3, largest, largest - 1, middle, middle - 1, GRID]  # some of a pair, and just below it
    assert pairs.accepted(cuts) == tuple([int((scores > cut).sum()) for cut in cuts] for scores in kinds)


def test_what_does_not_fit_is_refused():
    query, labels, others = Directions(torch.ones(4, 3)), torch.zeros(4), Directions(torch.ones(2, 3))
    for wrong in ((query, labels[:3], others), (query, labels, Directions(torch.ones(2, 4)))):
        with pytest.raises(ValueError, match=r"must be \[Q, D\], \[Q\] and \[M, D\]"):
            Pairs(*wrong, 8)


def test_drawn_negatives_are_the_same_for_all_embeddings_of_the_same_images():
    labels = torch.arange(QUERY) % 6
    drawn = [
        Pairs(Directions(torch.randn(QUERY, 3)), labels, Directions(torch.randn(OTHERS, 3)), block).negatives(100)
        for block in (8, 1000)
    ]
    assert all(torch.equal(one, other) for one, other in zip(*drawn, strict=True))


@pytest.mark.parametrize("most", [10**6, 300])
def test_negatives_are_all_pairs_of_different_people_or_some_of_them(most):
    torch.manual_seed(0)
    labels = torch.randint(0, 7, (40,))
    pairs = Pairs(Directions(torch.randn(40, 3)), labels, Directions(torch.randn(25, 3)), 16)
    rows, columns = pairs.negatives(most)
    found = [tuple(sorted(pair)) for pair in zip(rows.tolist(), columns.tolist(), strict=True)]
    every = {(i, j) for i in range(40) for j in range(i + 1, 65) if j >= 40 or labels[i] != labels[j]}
    assert len(found) == len(set(found))
    assert set(found) <= every
    assert len(every) == pairs.total
    assert len(found) == len(every) if most > len(every) else 200 < len(found) <= 300
    assert bool((rows < 40).all())


@pytest.mark.parametrize(("distractors", "most", "share"), [(0, 10, 0.0), (1, 10, 1.0), (2, 10, 1.0), (40, 40, 0.5)])
def test_the_share_of_the_negatives_that_is_kept(distractors, most, share):
    torch.manual_seed(0)
    query, owners = torch.randn(2, 3), torch.arange(-2, distractors).clamp_min(-1) + 1
    found = scored_pairs(query, torch.randn(distractors, 3), owners, most)
    assert found[4] == pytest.approx(share, abs=0.15 if share == 0.5 else 0)
    assert len(found[2]) == round(found[4] * 2 * distractors)
    assert found[0].shape == (1,)


def test_one_negative_is_all_of_them():
    found = scored_pairs(torch.ones(1, 3), torch.ones(1, 3), torch.tensor([0, 1]), 10)
    assert (found[2].tolist(), found[4]) == ([GRID], 1.0)


@pytest.mark.parametrize("block", [8, 1000])
def test_the_highest_negatives_are_those_of_a_plain_loop(block):
    pairs, labels, cosines = made(block)
    scores = {p: round(cosines[p].item()) for p in others(labels)}
    largest, median = max(scores.values()), sorted(scores.values())[len(scores) // 2]
    for cut in (-GRID - 1, median, median - 1, largest, largest - 1):
        rows, columns, found = pairs.above(cut)
        places = [tuple(sorted(pair)) for pair in zip(rows.tolist(), columns.tolist(), strict=True)]
        assert dict(zip(places, found.tolist(), strict=True)) == {p: s for p, s in scores.items() if s > cut}
        assert len(places) == len(set(places))


def test_the_highest_negatives_come_with_their_people_in_the_order_of_all():
    torch.manual_seed(0)
    query, distractors, owners = torch.randn(40, 3), torch.randn(25, 3), torch.arange(65) % 9
    _, _, scores, people, share = scored_pairs(query, distractors, owners, 10**6)
    assert share == 1
    cut = int(scores[200])
    found, whose = highest_pairs(query, distractors, owners, cut)
    assert found.equal(scores[scores > cut])
    assert len(set(found.tolist())) == len(found), "no ties, or their order might differ"
    assert whose.sort(0).values.equal(people[:, : len(found)].sort(0).values)
