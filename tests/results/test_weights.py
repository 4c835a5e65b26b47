"""A run's model comes back from its folder, or one line says why it does not."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support import FORWARD, GONE, bench, changed, copied_bench, network, plugin

from lossbench.data.catalogue import open_data
from lossbench.data.images.store import open_store
from lossbench.errors import InputError
from lossbench.evaluation.embed import embed
from lossbench.results.store import read_record
from lossbench.results.weights import load_backbone


@pytest.mark.parametrize("setting", ["dropout", "embedding_dim", "image_size", "backbone"])
def test_a_model_is_built_from_sound_settings_alone(made, setting):
    folder = next(made.glob("runs/ce-r0-*"))
    whole = {**read_record(folder), "folder": str(folder)}
    for value in (GONE, None, "7", -1, 7.5, True, [1], 10**9):
        with pytest.raises(InputError, match=r"does not say what was trained|no backbone called '7'"):
            load_backbone(changed(whole, ("protocol", "config", setting), value))


def test_a_backbone_comes_back_from_its_folder(orl, pixels, tmp_path):
    path = plugin(tmp_path, "mine", FORWARD)
    _, records, _ = bench(tmp_path / "out", f"{path},arcface+0.5*triplet", repeats=1)
    for record in records:
        saved = np.load(f"{record['folder']}/embeddings.npz")
        assert np.array_equal(embed(load_backbone(record), pixels, orl.split(0).query).numpy(), saved["query"])


@pytest.mark.parametrize("backbone", ["iresnet18", "mobilefacenet"])
def test_a_backbone_whose_shape_follows_from_the_image_size_comes_back_too(tree, tmp_path, backbone):
    small = {"epochs": 1, "repeats": 1, "embedding_dim": 8, "batch_size": 8, "data": str(tree)}
    _, records, _ = bench(tmp_path / "out", "ce", backbone=backbone, **small)
    faces = open_data(str(tree))
    pixels = torch.from_numpy(open_store(faces.files, 32).pixels)
    for record in records:
        saved = np.load(f"{record['folder']}/embeddings.npz")
        assert np.array_equal(embed(load_backbone(record), pixels, faces.split(0).query).numpy(), saved["query"])
    larger = changed(records[0], ("protocol", "config", "image_size"), 1024)
    larger = changed(larger, ("protocol", "config", "embedding_dim"), 65_536)
    with pytest.raises(InputError, match=r"\A[^\n]*do not fit \(Error[^\n]*size mismatch[^\n]*\Z"):
        load_backbone(larger)  # 550 GB of weights, if it were built


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"\xff" * 500])
def test_weights_that_fail_to_load_are_one_line(tmp_path, damage):
    _, records, _ = copied_bench(tmp_path, "ce", repeats=1)
    path = Path(records[1]["folder"]) / "weights.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(InputError, match=r"\A[^\n]*weights.safetensors is damaged[^\n]*trains only this run\Z"):
        load_backbone(records[1])
    path.unlink()
    with pytest.raises(InputError, match=r"\A[^\n]*weights.safetensors cannot be read[^\n]*trains only this run\Z"):
        load_backbone(records[1])


def test_weights_of_another_run_are_one_line(tmp_path):
    _, records, _ = bench(tmp_path, "ce", repeats=2)
    first, second = [record for record in records if record["entrant"] == "ce"]
    shutil.copy(Path(second["folder"]) / "weights.safetensors", first["folder"])
    with pytest.raises(InputError, match=r"\A[^\n]*is not the file that this run wrote; [^\n]*\Z"):
        load_backbone(first)
    protocol = {**first["protocol"], "config": {**first["protocol"]["config"], "embedding_dim": 32}}
    with pytest.raises(InputError, match=r"\A[^\n]*do not fit \(Error[^\n]*size mismatch[^\n]*\Z"):
        load_backbone({**second, "protocol": protocol})
    with pytest.raises(InputError, match=r"run.json does not say what was trained \(no 'protocol'\)"):
        load_backbone({key: value for key, value in second.items() if key != "protocol"})


def test_a_record_executes_nothing(tmp_path):
    """A run's folder may come from anybody: what it names as its loss is not run to use its backbone."""
    path = Path(plugin(tmp_path, "mine", FORWARD))
    _, records, _ = bench(tmp_path / "out", str(path), repeats=1)
    path.write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\n" + path.read_text())
    load_backbone({**records[1], "plugin_files": {"mine": str(path)}})
    assert not (tmp_path / "executed").exists()


def test_a_network_of_ones_own_comes_back_from_the_file_that_is_named(orl, pixels, tmp_path):
    path = network(tmp_path)
    _, records, _ = bench(tmp_path / "out", "ce", repeats=1, backbone=path)
    for record in records:
        saved = np.load(f"{record['folder']}/embeddings.npz")
        found = embed(load_backbone(record, network=path), pixels, orl.split(0).query).numpy()
        assert np.array_equal(found, saved["query"])
    with pytest.raises(InputError, match=r"\A[^\n]*network of your own, my_net; name its file with --backbone\Z"):
        load_backbone(records[0])
    Path(path).write_text(Path(path).read_text() + "# changed\n")
    with pytest.raises(InputError, match=r"\A--backbone [^\n]* is not the file that [^\n]* was trained with[^\n]*\Z"):
        load_backbone(records[0], network=path)


def test_a_record_that_names_a_file_executes_nothing(tmp_path):
    _, records, _ = copied_bench(tmp_path / "out", "ce", repeats=1)
    path = network(tmp_path, ("import torch\n", f"open({str(tmp_path / 'executed')!r}, 'w')\nimport torch\n"))
    hostile = changed(records[0], ("protocol", "config", "backbone"), path)
    with pytest.raises(InputError, match="does not say what was trained"):
        load_backbone(hostile)
    hostile["protocol"]["network"] = "0" * 64
    with pytest.raises(InputError, match="does not say what was trained"):
        load_backbone(hostile)
    assert not (tmp_path / "executed").exists()
