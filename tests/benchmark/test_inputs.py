"""What a benchmark's runs share is what was looked at when it began."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support import Recorder, bench, network

from lossbench.benchmark.inputs import gather, open_pixels, refuse_changed
from lossbench.config import Config
from lossbench.data.images.store import open_store
from lossbench.errors import InputError
from lossbench.models.backbones import build_backbone


def test_pairs_whose_images_change_between_two_looks_are_refused(tmp_path, tree):
    (tmp_path / "pairs.txt").write_text("2\t1\np4\t0\t1\np4\t0\tp5\t1\np4\t2\t3\np5\t2\tp4\t3\n")
    config = Config(losses="ce", data=str(tree), pairs=str(tmp_path / "pairs.txt"), image_size=32, out=str(tmp_path))
    inputs = gather(config, Recorder(), verify=False)
    file = inputs.pairs.files[0]
    file.write_bytes(inputs.pairs.files[1].read_bytes())
    changed = replace(
        inputs, fingerprints={**inputs.fingerprints, "data": open_store(inputs.faces.files, 32).fingerprint}
    )
    with pytest.raises(InputError, match=r"the images of .*pairs.txt have just changed"):
        open_pixels(changed, Recorder())


def test_weights_and_networks_that_change_between_two_looks_are_refused(tmp_path):
    path = network(tmp_path)
    torch.save(build_backbone(path).state_dict(), tmp_path / "w.pth")
    inputs = gather(
        Config(losses="ce", backbone=path, pretrained=str(tmp_path / "w.pth"), out=str(tmp_path)),
        Recorder(),
        verify=False,
    )
    refuse_changed(inputs)
    source = Path(path).read_text()
    Path(path).write_text(source + "# another line\n")
    with pytest.raises(InputError, match=rf"\Athe files of --backbone {path} have just changed; run the same .*\Z"):
        refuse_changed(inputs)
    Path(path).write_text(source)
    refuse_changed(inputs)
    (tmp_path / "w.pth").write_bytes((tmp_path / "w.pth").read_bytes() + b"1")
    with pytest.raises(InputError, match=r"\Athe weights of --pretrained .*w.pth have just changed; run the same .*\Z"):
        refuse_changed(inputs)
    (tmp_path / "w.pth").unlink()
    with pytest.raises(InputError, match=r"\A--pretrained .*w.pth cannot be read \(No such file or directory\)\Z"):
        refuse_changed(inputs)


def test_files_that_are_not_read_are_counted_in_a_note(tmp_path, tree):
    (tree / "val" / "p0" / "x.HEIC").write_bytes(b"photo")
    heard = Recorder()
    gather(Config(losses="ce", data=str(tree), image_size=32, out=str(tmp_path)), heard, verify=True)
    assert "left out: val/: 1 file: 1 .heic (not read: convert photos to .jpg)" in heard.notes


def test_pairs_of_copies_and_repeated_pairs_are_noted(tmp_path, tree):
    copy = tree / "query" / "p4" / "copy.jpg"
    copy.write_bytes((tree / "query" / "p4" / "0.jpg").read_bytes())
    (tmp_path / "pairs.txt").write_text("2\t1\np4\t0\tcopy\np4\t0\tp5\t1\np4\t2\t3\np5\t1\tp4\t0\n")
    heard = Recorder()
    config = Config(losses="ce", data=str(tree), pairs=str(tmp_path / "pairs.txt"), image_size=32, out=str(tmp_path))
    gather(config, heard, verify=False)
    assert "pairs.txt: 1 of 4 pairs repeat another; each counts" in heard.notes
    assert "1 pairs are of two files with the same content, which any model gets right" in heard.notes


@pytest.mark.parametrize(
    ("options", "lr"), [({}, 0.003), ({"optimizer": "sgd"}, 0.1 * 6 / 512), ({"optimizer": "sgd", "lr": 0.2}, 0.2)]
)
def test_a_default_rate_follows_a_batch_that_was_made_smaller(tmp_path, tree, options, lr):
    """24 training images make batches of 6, for which the default rate of SGD is another."""
    config = Config(losses="ce", data=str(tree), image_size=32, out=str(tmp_path), **options)
    inputs = gather(config, Recorder(), verify=True)
    assert (inputs.config.batch_size, inputs.config.lr) == (6, lr)


@pytest.mark.parametrize(
    ("losses", "size", "says"),
    [
        (
            "ce,arcface+0.5*triplet",
            4,
            "--batch-size 4 is too few: arcface\\+0.5\\*triplet takes 4 images of each .* use 8",
        ),
        ("triplet", 7, "--batch-size 7 is too few: triplet takes 4 images of each person in a batch, .* use 8"),
        ("pml:SmoothAPLoss", 17, "--batch-size 17 would cut a person: pml:SmoothAPLoss takes 4 .*; use 16 or 20"),
        ("triplet", 23, "--batch-size 23 would cut a person: .*; use 20 or 24"),
        ("triplet", 25, "--batch-size 25 is more than the 24 training images"),
    ],
)
def test_batches_of_one_person_or_of_half_a_person_are_refused(tmp_path, tree, losses, size, says):
    config = Config(losses=losses, data=str(tree), batch_size=size, image_size=32, out=str(tmp_path / "out"))
    with pytest.raises(InputError, match=rf"\A{says}[^\n]*\Z"):
        gather(config, Recorder(), verify=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("losses", "size"), [("ce", 6), ("triplet", 8), ("ce,pml:TripletMarginLoss", 8)])
def test_the_default_shrinks_to_whole_people(tmp_path, tree, losses, size):
    heard = Recorder()
    inputs = gather(Config(losses=losses, data=str(tree), image_size=32, out=str(tmp_path)), heard, verify=True)
    assert inputs.config.batch_size == size
    assert heard.notes == [f"batches of {size}, not 64: there are 24 training images"]


@pytest.mark.parametrize(("losses", "size"), [("ce", 4), ("ce", 17), ("triplet", 8), ("triplet", 24)])
def test_a_batch_size_that_fits_stays(tmp_path, tree, losses, size):
    config = Config(losses=losses, data=str(tree), batch_size=size, image_size=32, out=str(tmp_path))
    assert gather(config, Recorder(), verify=True).config.batch_size == size


@pytest.mark.parametrize(("place", "is_copy"), [("stream", False), ("resident", True), (None, False)])
def test_pixels_are_where_they_were_asked_to_be(tmp_path, tree, place, is_copy):
    (tmp_path / "pairs.txt").write_text("2\t1\np4\t0\t1\np4\t0\tp5\t1\np4\t2\t3\np5\t2\tp4\t3\n")
    pairs = str(tmp_path / "pairs.txt")
    config = Config(losses="ce", data=str(tree), pairs=pairs, image_size=32, out=str(tmp_path), pixels=place)
    inputs = gather(config, Recorder(), verify=False)
    found, stored = open_pixels(inputs, Recorder()), open_store(inputs.faces.files, 32).pixels
    assert torch.equal(found.faces, torch.from_numpy(stored))
    assert torch.equal(found.pairs.pixels, torch.from_numpy(open_store(inputs.pairs.files, 32).pixels))
    for pixels in (found.faces, found.pairs.pixels):
        assert is_mapped(pixels) != is_copy


def is_mapped(pixels):
    """Whether the kernel says that the memory of a tensor belongs to a store's file."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        start, end = (int(address, 16) for address in line.split()[0].split("-"))
        if start <= pixels.data_ptr() < end:
            return line.endswith(".npy")
    raise AssertionError("no such memory")


def test_where_pixels_are_is_recorded_and_makes_no_other_run(tmp_path):
    folder, first, _ = bench(tmp_path, "ce", repeats=1, pixels="resident")
    _, again, heard = bench(tmp_path, "ce", repeats=1, pixels="stream")
    assert heard.trained == []
    assert [record["hash"] for record in again] == [record["hash"] for record in first]
    assert 'pixels = "stream"' in (folder / "benchmark.toml").read_text()
