"""Rows drawn block by block are the bits of one draw, and a head that uses its draw otherwise is built whole."""

import pytest
import torch

from lossbench.losses import initial_rows
from lossbench.losses.initial_rows import built_with_rows, randn_rows
from lossbench.losses.loading import load_head
from lossbench.losses.registry import find_plugins

CLASSES, DIM, ROWS = 40, 24, slice(11, 29)


@pytest.mark.parametrize("block", [16, 32, 1024])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "shape", [(1, 3), (5, 3), (15, 1), (16, 1), (17, 1), (33, 1), (48, 7), (100, 3), (1000, 16), (1003, 5), (70, 3, 5)]
)
def test_blocks_give_the_bits_of_one_draw(shape, dtype, block, monkeypatch):
    monkeypatch.setattr(initial_rows, "BLOCK", block)
    torch.set_default_dtype(dtype)
    try:
        torch.manual_seed(5)
        whole, after, further = torch.randn(shape), torch.get_rng_state(), torch.randn(3)
        for first, last in ((0, shape[0]), (0, shape[0] // 2), (shape[0] // 3, shape[0]), (shape[0] - 1, shape[0])):
            torch.manual_seed(5)
            assert torch.equal(randn_rows(torch.Size(shape), slice(first, last)), whole[first:last])
            assert torch.equal(torch.get_rng_state(), after)
            assert torch.equal(torch.randn(3), further)
    finally:
        torch.set_default_dtype(torch.float32)


def of(spec):
    torch.manual_seed(3)
    return load_head(spec, num_classes=CLASSES, embedding_dim=DIM)


@pytest.mark.parametrize("spec", [*(name for name in find_plugins() if not name.startswith("pml:")), "arcface+magface"])
def test_every_loss_has_the_rows_it_would_have_of_the_whole(spec):
    whole, after = dict(of(spec).named_modules()), torch.get_rng_state()
    built = built_with_rows(lambda: of(spec), CLASSES, ROWS)
    assert torch.equal(torch.get_rng_state(), after)
    if spec == "center":  # what it draws is called centers
        assert built is None
        return
    head, parts = built
    assert len(parts) == {"ce": 0, "triplet": 0, "arcface+magface": 2}.get(spec, 1)
    for name, part in head.named_modules():
        for key, own in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            full = getattr(whole[name], key)
            assert torch.equal(own, full[ROWS] if name in parts and key == "weight" else full)
    assert all(shape == whole[name].weight.shape for name, shape in parts.items())


@pytest.mark.parametrize(
    "line",
    [
        "torch.nn.init.xavier_normal_(self.weight)",
        "self.weight.data /= 2",
        "self.weight.data = torch.nn.functional.normalize(self.weight.data)",
        "self.register_buffer('two', torch.cat([self.weight, self.weight]).detach())",
        "self.count = len(self.weight)",
        "self.count = self.weight.shape[0]",
        "self.plain = self.weight.detach().numpy()",
        "self.register_buffer('noise', torch.randn(num_classes, embedding_dim))",
        "self.noise = torch.randn(num_classes, embedding_dim)",
    ],
)
def test_a_loss_that_uses_its_draw_otherwise_is_built_whole(line, tmp_path):
    path = tmp_path / "other.py"
    path.write_text(
        "import torch\nfrom lossbench import Head\n\n\nclass Other(Head):\n"
        "    def __init__(self, num_classes, embedding_dim):\n        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.randn(num_classes, embedding_dim))\n"
        f"        {line}\n\n    def forward(self, embeddings, labels):\n        return embeddings.sum()\n"
    )
    of(str(path))
    assert built_with_rows(lambda: of(str(path)), CLASSES, ROWS) is None
