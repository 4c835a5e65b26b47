"""Pixels reach the device whole or batch by batch, and are the same."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from support import equal_states, settings
from support import trained as run

from lossbench.data.faces import Part
from lossbench.data.images.streaming import StreamedPixels, batches_of, place_pixels, suitable_place
from lossbench.errors import InputError
from lossbench.evaluation.embed import PairImages, embed, pair_inputs
from lossbench.evaluation.measure import measure
from lossbench.training.seeds import initial_backbone

CPU = torch.device("cpu")


@pytest.fixture
def streamed(pixels):
    return StreamedPixels(pixels, CPU)


def chosen(*sizes):
    chance = torch.Generator().manual_seed(0)
    return [torch.randint(0, 400, (size,), generator=chance) for size in sizes]


@pytest.mark.parametrize("sizes", [(), (0,), (5,), (32,) * 3, (32,) * 4, (32,) * 11, (7, 3, 64, 0, 1, 64)])
def test_each_batch_holds_its_rows_whatever_their_number(pixels, streamed, sizes):
    rows = chosen(*sizes)
    for made in (streamed, pixels):
        found = [batch.clone() for batch in batches_of(made, rows)]
        assert len(found) == len(rows)
        assert all(torch.equal(batch, pixels[some]) for batch, some in zip(found, rows, strict=True))


def test_a_batch_is_valid_until_the_next_is_asked_for(pixels, streamed):
    """However far the gathering thread is ahead: it never writes where the batch in use is."""
    rows = chosen(*[16] * 20)
    for batch, some in zip(batches_of(streamed, rows), rows, strict=True):
        threading.Event().wait(0.005)
        assert torch.equal(batch, pixels[some])


def test_stopping_early_leaves_no_thread(streamed):
    before = threading.active_count()
    batches = batches_of(streamed, chosen(*[16] * 20))
    next(batches)
    assert threading.active_count() == before + 1
    batches.close()
    assert threading.active_count() == before


def test_rows_that_the_store_does_not_have_are_an_error_here(streamed):
    with pytest.raises((IndexError, RuntimeError), match="out of range"):
        list(batches_of(streamed, [torch.tensor([0]), torch.tensor([400])]))


def test_it_knows_its_size_and_place(pixels, streamed):
    assert len(streamed) == 400
    assert streamed.shape == pixels.shape
    assert streamed.device == CPU


@pytest.mark.parametrize("losses", ["arcface", "triplet"])
def test_training_and_measuring_give_the_same_bits(orl, pixels, streamed, tmp_path, losses):
    split, config = orl.split(0), settings(epochs=1, track=True)
    ends = []
    for name, made in (("resident", pixels), ("streamed", streamed)):
        trained = run(losses, split, made, tmp_path / name, config)
        pairs = PairImages(SomePairs(), made)
        measured = measure(trained.backbone, trained.head, made, split, pairs=pairs, flip=True)
        ends.append((trained, measured))
    (first, a), (second, b) = ends
    assert equal_states(first.backbone, second.backbone)
    assert equal_states(first.head, second.head)
    assert first.history[0].tracked == second.history[0].tracked
    assert repr(a.figures) == repr(b.figures), "NaN too"
    assert all(torch.equal(a.embeddings[part], b.embeddings[part]) for part in a.embeddings)


class SomePairs:
    """Verification pairs of ORL's faces, in ten folds."""

    a = tuple(range(0, 400, 4))
    b = tuple(range(1, 400, 4)[:50]) + tuple(range(200, 0, -4))
    same = (True,) * 50 + (False,) * 50
    folds = tuple(i % 10 for i in range(100))


def test_mirrored_images_are_embedded_batch_by_batch(pixels, streamed):
    backbone = initial_backbone(settings(), 0)
    part = Part(tuple(range(300)), (0,) * 300, ("",))
    expected = embed(backbone, pixels.flip(2), part)
    assert torch.equal(embed(backbone, pixels, part, flip=True), expected)
    assert torch.equal(embed(backbone, streamed, part, flip=True), expected)
    assert not torch.equal(embed(backbone, pixels, part), expected)
    plain, flipped = (
        pair_inputs(backbone, PairImages(SomePairs(), streamed), flip=flip)["pair_scores"] for flip in (False, True)
    )
    assert not torch.equal(plain, flipped)


def test_on_a_cpu_a_stream_is_the_file_itself_and_resident_a_copy(tmp_path):
    np.save(tmp_path / "store.npy", np.arange(48, dtype=np.uint8).reshape(1, 4, 4, 3))
    mapped = np.load(tmp_path / "store.npy", mmap_mode="c")
    stream, resident = (place_pixels(mapped, CPU, place) for place in ("stream", "resident"))
    assert stream.data_ptr() == mapped.ctypes.data
    assert resident.data_ptr() != mapped.ctypes.data
    assert torch.equal(stream, resident)
    assert suitable_place(10**15, CPU) == "stream"


def test_images_that_do_not_fit_are_refused_with_the_cure(monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.Tensor, "to", full)
    with pytest.raises(InputError, match=r"--pixels resident: .* GiB\) do not fit in memory; use --pixels stream"):
        place_pixels(np.zeros((1, 4, 4, 3), np.uint8), torch.device("cuda"), "resident")


@pytest.mark.parametrize(("size", "sharers", "place"), [(50, 1, "resident"), (51, 1, "stream"), (26, 2, "stream")])
def test_half_of_the_free_memory_of_a_gpu_is_for_images(monkeypatch, size, sharers, place):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    assert suitable_place(size, torch.device("cuda"), sharers=sharers) == place


_WATCHED = """
import re, sys, threading, time
from pathlib import Path
import numpy as np, torch
from torch import nn
from lossbench.config import Config
from lossbench.data.faces import Part, Split
from lossbench.data.images.streaming import place_pixels
from lossbench.losses.registry import find_plugins
from lossbench.losses.spec import parse_spec
from lossbench.training import step, train as training

def anonymous():
    return int(re.search(r"RssAnon:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

def watch():
    while True:
        seen.append(anonymous())
        time.sleep(0.005)

store, place, folder = sys.argv[1:]
step.augment = lambda images, draws: images  # for speed alone, as the network
training.initial_backbone = lambda config, repeat: nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), nn.Linear(147, 64))
config = Config(image_size=112, batch_size=16, epochs=1, backbone="tiny", embedding_dim=64).resolved()
people = tuple(map(str, range(10)))

def train(mapped):
    pixels = place_pixels(mapped, torch.device("cpu"), place)
    rows = tuple(range(len(mapped)))
    everything, one = Part(rows, tuple(i % 10 for i in rows), people), Part((0,), (0,), people)
    split = Split(everything, one, one, one, one)
    training.train(config, parse_spec("ce", find_plugins()), 0, split, pixels, Path(folder))
    (Path(folder) / "checkpoint.pt").unlink()

mapped = np.load(store, mmap_mode="c")
train(mapped[:64])  # what torch takes once
seen = [anonymous()]
threading.Thread(target=watch, daemon=True).start()
train(mapped)
print(max(seen) - seen[0])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads RssAnon of Linux")
@pytest.mark.parametrize("place", ["stream", "resident"])
def test_training_on_a_mapped_store_holds_no_copy_of_it(tmp_path, place):
    """Anonymous memory alone counts: the system drops pages of the file as soon as it needs their place."""
    store = np.lib.format.open_memmap(tmp_path / "store.npy", mode="w+", dtype=np.uint8, shape=(4000, 112, 112, 3))
    size = store.nbytes
    del store
    command = [sys.executable, "-c", _WATCHED, tmp_path / "store.npy", place, tmp_path]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < size / 4 if place == "stream" else grown > size * 0.9, (
        f"{grown / 2**20:.0f} of {size / 2**20:.0f} MiB"
    )
