"""A run's model written as a file: compared with the run before, and refused where it differs."""

import json

import pytest
import torch
from support import bench, network, run_of

import lossbench
from lossbench.errors import InputError
from lossbench.evaluation import export as module
from lossbench.evaluation.export import export
from lossbench.models.export import FORMATS
from lossbench.results.model_file import read_model
from lossbench.results.store import find_run

KINDS = [pytest.param(kind, marks=pytest.mark.extra("onnx") if kind == "onnx" else []) for kind in FORMATS]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder, _, _ = bench(tmp_path_factory.mktemp("results"), "ce", epochs=1, repeats=1)
    return run_of(folder, "ce")


@pytest.mark.parametrize("kind", KINDS)
def test_the_file_gives_the_embeddings_of_the_run(run, kind, tmp_path):
    out = tmp_path / f"m{FORMATS[kind]}"
    before = torch.random.get_rng_state()
    made = export(find_run(run), kind, out)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert 0 <= made.difference <= 1e-5
    assert made.size == out.stat().st_size
    model, images = read_model(out), torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    assert model.facts == made.facts == json.loads(json.dumps(made.facts))
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(lossbench.load_backbone(run)(images / 255))
    torch.testing.assert_close(model.embed(images), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("wrong", [1e-3, float("nan")])
def test_a_file_that_differs_is_not_written(run, tmp_path, monkeypatch, wrong):
    monkeypatch.setattr(module, "serialised", lambda embedder, *rest: shifted(embedder, wrong, *rest))
    with pytest.raises(InputError, match=r"m.safetensors is not written: its embeddings differ from the run's by"):
        export(find_run(run), "safetensors", tmp_path / "m.safetensors")
    assert not list(tmp_path.iterdir())


def shifted(embedder, by, *rest):
    """Serialise a model with one bias changed."""
    import copy

    from lossbench.models.export import serialised

    other = copy.deepcopy(embedder)
    with torch.no_grad():
        other.backbone[2][2].bias[0] += by * 1000
    return serialised(other, *rest)


def test_a_network_of_ones_own_needs_its_file_and_is_not_rebuilt(tmp_path):
    own = network(tmp_path)
    folder, _, _ = bench(tmp_path / "results", "ce", epochs=1, repeats=1, backbone=own)
    record = find_run(run_of(folder, "ce"))
    with pytest.raises(InputError, match="name its file with --backbone"):
        export(record, "torch", tmp_path / "m.pt2")
    assert export(record, "torch", tmp_path / "m.pt2", network=own).difference <= 1e-5
    assert export(record, "safetensors", tmp_path / "m.safetensors", network=own).difference is None
    with pytest.raises(InputError, match="use the ONNX file, which holds both"):
        read_model(tmp_path / "m.pt2")
