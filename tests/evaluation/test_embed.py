"""Embedding: the same whatever the batches and threads, and the network left as it was."""

import threading

import pytest
import torch

from lossbench.config import Config
from lossbench.data.batches import to_images
from lossbench.data.faces import Part
from lossbench.evaluation.embed import batching, embed
from lossbench.training.seeds import initial_backbone

CONFIG = Config(epochs=3, image_size=32).resolved()


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def part_of(rows):
    return Part(tuple(rows), (0,) * len(rows), ("",))


def test_embedding_leaves_the_mode_and_the_statistics_alone(pixels, threads):
    backbone = initial_backbone(CONFIG, 0).train()
    frozen = next(module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm2d)).eval()
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    found = embed(backbone, pixels, part_of(range(400)))
    assert backbone.training
    assert not frozen.training
    assert sum(module.training for module in backbone.modules()) == len(list(backbone.modules())) - 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())
    with torch.no_grad():
        one_by_one = torch.cat([backbone.eval()(to_images(pixels[i : i + 1])) for i in range(400)])
    torch.testing.assert_close(found, one_by_one, atol=1e-5, rtol=1e-4)
    assert torch.equal(found, embed(backbone, pixels, part_of(range(400)))), "the same again, to the bit"
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("count", [0, 1, 100, 350])
def test_images_in_line_embed_as_gathered_ones(pixels, count, threads):
    backbone = initial_backbone(CONFIG, 0)
    spread = torch.zeros(2 * len(pixels), *pixels.shape[1:], dtype=torch.uint8)
    spread[::2] = pixels
    found = embed(backbone, pixels, part_of(range(37, 37 + count)))
    assert not found.requires_grad
    assert found.shape == (count, CONFIG.embedding_dim)
    assert torch.equal(found, embed(backbone, spread, part_of(range(74, 74 + 2 * count, 2))))
    found.requires_grad_().sum().backward()  # no tensor of inference mode, which could not


@pytest.mark.parametrize("side", [16, 64, 112, 224, 1600])
@pytest.mark.parametrize("threads", [1, 2, 3, 8, 10, 64])
def test_batches_fit_in_memory_and_keep_all_threads_busy(side, threads, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    image = torch.empty(1, side, side, 3, dtype=torch.uint8)
    most = max(1, min(128, 128 * 112**2 // side**2))
    for count in (0, 1, 63, 64, 127, 128, 129, 300, 1000, 12_000):
        size, at_a_time = batching(count, image)
        assert 1 <= size <= most
        assert 1 <= at_a_time <= min(8, threads)
        batches = -(-count // size)
        assert at_a_time == 1 or size >= most // 2, "too little a thread"
        assert at_a_time > 1 or threads == 1 or count < 2 * most, "threads that could have a batch of their own"
        assert count < 8 * most or batches % at_a_time == 0 or batches > 5 * at_a_time, "threads wait for the last"
    assert threads // at_a_time * at_a_time > threads * 0.8


@pytest.mark.parametrize("at_a_time", [1, 2, 3])
def test_each_thread_embeds_a_batch_at_the_same_time(pixels, at_a_time):
    class Together(torch.nn.Module):
        def forward(self, images):
            barrier.wait()  # for the others, or an error
            return images.flatten(1)

    barrier = threading.Barrier(at_a_time, timeout=20)
    before = torch.get_num_threads()
    torch.set_num_threads(at_a_time)
    try:
        rows = part_of([i % len(pixels) for i in range(2 * 128 * at_a_time)])
        assert torch.equal(embed(Together(), pixels, rows), to_images(pixels[list(rows.rows)]).flatten(1))
    finally:
        torch.set_num_threads(before)


def test_an_error_of_the_backbone_comes_out(pixels, threads):
    class Broken(torch.nn.Module):
        def forward(self, images):
            raise RuntimeError("not enough memory")

    broken = Broken().train()
    with pytest.raises(RuntimeError, match="not enough memory"):
        embed(broken, pixels, part_of(range(400)))
    assert broken.training, "left as it was"
