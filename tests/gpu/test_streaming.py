"""Images streamed to the GPU: the same bits as resident ones, and copies that overlap with the work."""

import time

import pytest
import torch
from support import equal_states, settings, trained

from lossbench.data.faces import Part
from lossbench.data.images.streaming import StreamedPixels, batches_of, place_pixels, suitable_place
from lossbench.evaluation.embed import embed
from lossbench.evaluation.measure import measure
from lossbench.training.seeds import initial_backbone


@pytest.mark.parametrize("sizes", [(0,), (64,) * 3, (64,) * 50, (7, 3, 64, 0, 1, 64)])
def test_each_batch_holds_its_rows_however_late_the_device_is(cuda, pixels, sizes):
    chance = torch.Generator().manual_seed(0)
    rows = [torch.randint(0, 400, (size,), generator=chance) for size in sizes]
    heavy, found = torch.rand(2000, 2000, device=cuda), []
    for batch in batches_of(StreamedPixels(pixels, cuda), rows):
        heavy = (heavy @ heavy).softmax(1)  # the device falls behind: a buffer must not be overwritten before its use
        found.append(batch.clone())
    assert all(torch.equal(batch.cpu(), pixels[some]) for batch, some in zip(found, rows, strict=True))


@pytest.mark.parametrize("loss", ["arcface", "triplet"])
def test_training_and_measuring_give_the_same_bits(cuda, orl, pixels, tmp_path, loss):
    split, ends = orl.split(0), []
    for place in ("resident", "stream"):
        placed = place_pixels(pixels.numpy(), cuda, place)
        assert isinstance(placed, StreamedPixels) == (place == "stream")
        made = trained(loss, split, placed, tmp_path / place, settings(epochs=2, track=True))
        ends.append((made, measure(made.backbone, made.head, placed, split)))
    (first, a), (second, b) = ends
    assert equal_states(first.backbone, second.backbone)
    assert equal_states(first.head, second.head)
    assert [epoch.train_loss for epoch in first.history] == [epoch.train_loss for epoch in second.history]
    assert repr(a.figures) == repr(b.figures)


def test_embedding_gives_the_same_bits_mirrored_too(cuda, pixels):
    backbone = initial_backbone(settings(), 0).to(cuda)
    part = Part(tuple(range(0, 400, 3)), (0,) * 134, ("",))
    for flip in (False, True):
        ends = [embed(backbone, place_pixels(pixels.numpy(), cuda, p), part, flip=flip) for p in ("resident", "stream")]
        assert torch.equal(*ends)


def test_batches_travel_while_the_device_works(cuda):
    """100 batches beside as much work as their copies take alone: less than the sum of both."""
    store = StreamedPixels(torch.zeros(2000, 112, 112, 3, dtype=torch.uint8), cuda)
    rows = list(torch.arange(2000).repeat(10).view(100, 200))
    matrix = torch.rand(4096, 4096, device=cuda)

    def seconds(batches, work):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in batches:
            for _ in range(work):
                torch.mm(matrix, matrix)
        torch.cuda.synchronize()
        return time.perf_counter() - start

    seconds(store.batches(rows), 1)
    copies, one = seconds(store.batches(rows), 0), seconds(range(100), 1)
    work = max(1, round(copies / one))
    assert seconds(store.batches(rows), work) < 0.8 * (copies + seconds(range(100), work))


def test_the_free_memory_decides(cuda):
    free, _ = torch.cuda.mem_get_info(cuda)
    assert suitable_place(free // 4, cuda) == "resident"
    assert suitable_place(free // 4, cuda, sharers=4) == "stream"
    assert suitable_place(free, cuda) == "stream"
