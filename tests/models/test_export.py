"""Export: the module that is written, what the formats hold, and networks and formats that are refused."""

import json

import pytest
import torch
from safetensors.torch import load, safe_open

from lossbench.errors import InputError
from lossbench.models.backbones import build_backbone
from lossbench.models.export import FACTS, Embedder, check_format, serialised


@pytest.fixture
def embedder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Embedder(build_backbone("tiny", image_size=32, embedding_dim=16))


@pytest.fixture
def images():
    return torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_embeddings_are_those_of_the_backbone_on_images_in_0_to_1_at_length_1(embedder, images):
    with torch.no_grad():
        expected = embedder.backbone(images.float() / 255)
        found = embedder(images)
    torch.testing.assert_close(found, expected / expected.norm(dim=1, keepdim=True))
    assert not embedder.training


def test_safetensors_holds_weights_under_their_names_and_the_metadata(embedder, tmp_path):
    data = serialised(embedder, 32, '{"a": 1}', "safetensors")
    assert load(data).keys() == embedder.backbone.state_dict().keys()
    (tmp_path / "m.safetensors").write_bytes(data)
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        assert file.metadata() == {FACTS: '{"a": 1}'}


def test_a_program_takes_any_number_of_images_and_names_no_folder_of_this_machine(embedder, images, tmp_path):
    (tmp_path / "m.pt2").write_bytes(serialised(embedder, 32, '{"a": 1}', "torch"))
    extra = {f"{FACTS}.json": ""}
    program = torch.export.load(tmp_path / "m.pt2", extra_files=extra)
    assert json.loads(extra[f"{FACTS}.json"]) == {"a": 1}
    for count in (1, 2, 5):
        many = images.repeat(3, 1, 1, 1)[:count]
        torch.testing.assert_close(program.module()(many), embedder(many))
    assert b"models/export.py" not in (tmp_path / "m.pt2").read_bytes()


@pytest.mark.extra("onnx")
def test_an_onnx_file_says_what_it_takes_and_gives(embedder):
    import onnx

    data = serialised(embedder, 32, '{"a": 1}', "onnx")
    model = onnx.load_from_string(data)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {FACTS: '{"a": 1}'}
    dims = [
        (value.name, [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim])
        for value in (*model.graph.input, *model.graph.output)
    ]
    assert dims == [("images", ["batch", 3, 32, 32]), ("embeddings", ["batch", 16])]
    assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert b".py" not in data, "no file of this machine"


class Branching(torch.nn.Module):
    def forward(self, images):
        return images.flatten(1)[:, :4] * (2 if images.sum() > 0 else 1)


def test_a_network_that_torch_cannot_follow_is_refused_in_one_line():
    with pytest.raises(InputError, match=r"torch\.export cannot follow this network \(.*--format safetensors") as error:
        serialised(Embedder(Branching()), 8, "{}", "torch")
    assert "\n" not in str(error.value)


def test_an_unknown_format_names_the_known_ones():
    with pytest.raises(InputError, match=r"'onx' is unknown; did you mean 'onnx'\?; choose onnx, safetensors or"):
        check_format("onx")
    for name in ("safetensors", "torch"):
        check_format(name)


def test_a_missing_extra_names_its_installation(monkeypatch):
    monkeypatch.setattr("lossbench.models.export.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs onnx, onnxscript and onnxruntime; .*pip install 'lossbench\[onnx\]'"):
        check_format("onnx")
