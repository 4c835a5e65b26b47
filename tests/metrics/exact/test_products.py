"""Float32 products that screen pairs, and the fast comparisons, against plain torch and float64."""

import math

import pytest
import torch

from lossbench.metrics import identification_rate
from lossbench.metrics.exact.directions import GRID, Directions, exact_scores
from lossbench.metrics.exact.products import Tile, above, count, full_precision, masks, products, where
from lossbench.utils.threads import Scratch

pytestmark = pytest.mark.usefixtures("each_way")


@pytest.mark.parametrize("block", [1, 4, 100])
@pytest.mark.parametrize("chosen", [slice(2, 9), torch.tensor([7, 0, 7])], ids=["a slice", "positions"])
def test_products_are_those_of_unit_rows_block_by_block(block, chosen):
    torch.manual_seed(0)
    rows, columns = torch.nn.functional.normalize(torch.randn(10, 5)), torch.randn(12, 5) * 7
    found, starts = [], []
    with full_precision():
        for start, product in products(rows, Directions(columns), chosen, block, Scratch()):
            starts.append(start)
            found.append(product.clone())  # valid until the next one
    expected = rows.double() @ torch.nn.functional.normalize(columns[chosen].double()).T
    assert starts == list(range(0, 10, block))
    torch.testing.assert_close(torch.cat(found).double(), expected, rtol=0, atol=1e-6)


EDGES = torch.tensor([-0.5, 0.25, 0.25])


@pytest.mark.parametrize("edge", [0.25, EDGES], ids=["one", "one a row"])
@pytest.mark.parametrize("into", [False, True])
def test_above_is_a_strict_comparison_in_which_nan_lies_nowhere(edge, into):
    scores = torch.tensor([[0.25, -0.5, math.nan, 1], [math.nan, 0.25, 0.5, -1], [0.3, 0.2, 0.25, math.nan]])
    memory = torch.ones(3, 4, dtype=torch.bool) if into else None
    found = above(scores, edge, out=memory)
    edges = EDGES.tolist() if isinstance(edge, torch.Tensor) else [edge] * 3
    assert found.tolist() == [[s > e for s in row] for row, e in zip(scores.tolist(), edges, strict=True)]
    assert memory is None or found.data_ptr() == memory.data_ptr()


@pytest.mark.parametrize("share", [0, 0.1, 1])
def test_the_true_entries_of_a_mask_are_counted_and_found(share):
    mask = torch.rand(7, 30, generator=torch.Generator().manual_seed(0)) < share
    flat = [i for i, entry in enumerate(mask.flatten().tolist()) if entry]
    assert (count(mask), where(mask).tolist()) == (len(flat), flat)
    assert where(mask).dtype == torch.int64


def test_positions_in_a_tile_are_rows_and_columns_of_the_whole():
    tile = Tile(torch.zeros(2, 3), 10, torch.tensor([7, 5, 6]), pairs=6)
    rows, columns = tile.places(torch.tensor([0, 2, 4]))
    assert (rows.tolist(), columns.tolist()) == ([10, 10, 11], [7, 6, 5])


def test_the_two_masks_of_a_tile_do_not_share_memory():
    one, other = masks(Tile(torch.zeros(4, 5), 0, torch.arange(5), pairs=20), Scratch())
    one.fill_(True)
    other.fill_(False)
    assert one.all()
    assert one.shape == other.shape == (4, 5)


@pytest.mark.parametrize("kind", ["random", "one sign", "equal", "one large"])
@pytest.mark.parametrize("dim", [2, 64, 512, 4096])
def test_float32_products_are_within_the_slack_however_they_are_summed(dim, kind):
    torch.manual_seed(0)
    x = torch.randn(120, dim)
    x = {"random": x, "one sign": x.abs(), "equal": torch.ones(120, dim) / 3, "one large": x * 1e-3}[kind]
    x[:, 0] += 1.0 if kind == "one large" else 0.0
    rows = Directions(x * torch.logspace(-20, 15, 120).unsqueeze(1))
    i, j = torch.arange(120).repeat_interleave(120), torch.arange(120).repeat(120)
    exact = (exact_scores(rows, i, rows, j) / GRID).reshape(120, 120)
    unit = rows.unit(slice(None))
    one_by_one = torch.zeros(120, 120)
    for column in unit.T:  # the longest chain of roundings
        one_by_one += column.unsqueeze(1) * column
    for product in (unit @ unit.T, unit.flip(1) @ unit.flip(1).T, one_by_one):
        assert (product.double() - exact).abs().max() < rows.slack


@pytest.mark.skipif(not hasattr(torch.backends.cuda.matmul, "fp32_precision"), reason="an older torch")
def test_the_precision_that_was_set_before_is_kept():
    before = torch.backends.mkldnn.matmul.fp32_precision
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        with full_precision():
            assert torch.backends.mkldnn.matmul.fp32_precision == "ieee"
        assert torch.backends.mkldnn.matmul.fp32_precision == "bf16"
        identification_rate(torch.randn(6, 4), torch.arange(6) % 2, torch.randn(5, 4), [0.2])
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = before
