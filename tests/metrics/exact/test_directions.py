"""What the metrics of embeddings share: unit rows, cosines that tie, people counted."""

import math

import pytest
import torch

from lossbench.metrics.exact.directions import (
    GRID,
    Directions,
    exact_scores,
    grid_cosines,
    norms,
    people_of,
    unit_rows,
)

pytestmark = pytest.mark.usefixtures("each_way")


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_any_norm_become_unit_rows(scale, dtype):
    torch.manual_seed(0)
    rows = torch.randn(20, 7, dtype=dtype)
    unit = unit_rows(rows * scale)
    assert unit.dtype == torch.float64
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(20, dtype=torch.float64))
    torch.testing.assert_close(unit * rows.double().norm(dim=1, keepdim=True), rows.double(), rtol=1e-6, atol=1e-7)


def test_cosines_equal_on_paper_are_equal():
    columns = torch.tensor([[3.0, 1, 2], [6, 2, 4], [7, 7 / 3, 14 / 3], [1, 2, 3]], dtype=torch.float64)
    got = grid_cosines(unit_rows(columns[3:]), unit_rows(columns))
    assert got.tolist() == [[round(11 / 14 * GRID)] * 3 + [GRID]]


def test_people_are_numbered_without_gaps():
    people, images = people_of(torch.ones(5, 2), torch.tensor([70, -3, 70, 5, 70]))
    assert people.tolist() == [2, 0, 2, 1, 2]
    assert images.tolist() == [1, 1, 3]


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        (torch.ones(3), r"\(3,\) must be \[N, D\]"),
        (torch.zeros(2, 3), "zero or not finite"),
        (torch.full((2, 3), math.inf), "zero or not finite"),
        (torch.full((2, 3), math.nan), "zero or not finite"),
    ],
)
def test_what_has_no_direction_is_refused(rows, says):
    with pytest.raises(ValueError, match=says):
        unit_rows(rows)


def test_labels_must_fit():
    with pytest.raises(ValueError, match=r"labels \(3,\) must be \[2\]"):
        people_of(torch.ones(2, 3), torch.zeros(3))


def test_the_slack_is_a_few_roundings_a_dimension():
    """An upper bound alone would be met by any large number, for which everything is computed twice."""
    for dim in (2, 64, 512):
        slack = Directions(torch.ones(1, dim)).slack
        assert (dim + 2) * 2**-24 + 0.5 / GRID < slack < (dim + 20) * 2**-24 + 2 / GRID


def test_the_doubt_is_a_few_roundings_a_dimension_and_more_than_two_ways_differ():
    for dim in (2, 64, 512):
        rows = Directions(torch.randn(300, dim, generator=torch.Generator().manual_seed(0)))
        assert rows.doubt < (2 * dim + 40) * 2**-53 * GRID
        wide = rows.embeddings.double()
        unit = wide / rows.norms.unsqueeze(1)
        quotients = (wide.unsqueeze(1) * wide).sum(2) / (rows.norms.unsqueeze(1) * rows.norms)
        assert 0 < ((unit @ unit.T - quotients) * GRID).abs().max() < rows.doubt


@pytest.mark.parametrize("count", [1, 511, 513, 1500, 20_000])
def test_exact_scores_are_rounded_cosines_however_many(count):
    torch.manual_seed(0)
    a, b = torch.randn(40, 5), torch.randn(30, 5)
    i, j = torch.randint(0, 40, (count,)), torch.randint(0, 30, (count,))
    cosines = torch.nn.functional.cosine_similarity(a[i].double(), b[j].double(), dim=1)
    found = exact_scores(Directions(a), i, Directions(b), j)
    assert found.dtype == torch.int64
    assert (found - cosines * GRID).abs().max() <= 0.51


@pytest.mark.parametrize("count", [1, 1024, 1025, 2500])
def test_norms_and_unit_rows_however_many(count):
    rows = torch.randn(count, 3) * torch.logspace(-10, 10, count).unsqueeze(1)
    torch.testing.assert_close(norms(rows), rows.double().norm(dim=1))
    for chosen in (slice(None), slice(0, count // 2 + 1), torch.randperm(count)):
        unit = Directions(rows).unit(chosen)
        assert unit.dtype == torch.float32
        torch.testing.assert_close(unit, torch.nn.functional.normalize(rows.double()[chosen], dim=1).float())
