"""Model files read back: the same embeddings, and files that are damaged, foreign or crafted."""

import io
import json
import zipfile

import pytest
import torch
from safetensors.torch import load, save
from support import changed, model_record

from lossbench.errors import InputError
from lossbench.models.backbones import build_backbone
from lossbench.models.export import FACTS, FORMATS, Embedder, serialised
from lossbench.results.model_facts import facts_of
from lossbench.results.model_file import model_of, read_model

KINDS = [pytest.param(kind, marks=pytest.mark.extra("onnx") if kind == "onnx" else []) for kind in FORMATS]
FACTS_HERE = facts_of(model_record())


@pytest.fixture(scope="module")
def embedder():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Embedder(build_backbone("tiny", image_size=32, embedding_dim=16))


@pytest.fixture(scope="module")
def written(embedder):
    """The bytes of a model by format, each made once."""
    made = {}

    def of(kind):
        if kind not in made:
            made[kind] = serialised(embedder, 32, json.dumps(FACTS_HERE), kind)
        return made[kind]

    return of


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_embeddings_that_it_was_written_from(kind, written, embedder, tmp_path):
    file = tmp_path / f"m{FORMATS[kind]}"
    file.write_bytes(written(kind))
    before = torch.random.get_rng_state()
    model = read_model(file)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.facts == FACTS_HERE
    for count in (1, 3):
        images = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
        with torch.no_grad():
            torch.testing.assert_close(model.embed(images), embedder(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_damage_is_one_line(kind, damage, written):
    data = {"cut": written(kind)[:3000], "empty": b"", "noise": bytes(range(256)) * 20}[damage]
    with pytest.raises(InputError, match=r"^m is damaged, or no .* file \(.*export the run again$") as error:
        model_of(data, kind, "m")
    assert "\n" not in str(error.value)


def test_weights_of_another_program_have_no_metadata():
    with pytest.raises(InputError, match="m has no metadata of lossbench, and so no thresholds"):
        model_of(save({"a": torch.zeros(2)}), "safetensors", "m")


@pytest.mark.extra("onnx")
def test_onnx_of_another_program_has_no_metadata(written):
    import onnx

    model = onnx.load_from_string(written("onnx"))
    del model.metadata_props[:]
    with pytest.raises(InputError, match="m has no metadata of lossbench"):
        model_of(model.SerializeToString(), "onnx", "m")
    entry = model.metadata_props.add()
    entry.key, entry.value = FACTS, json.dumps(changed(FACTS_HERE, ("model", "embedding_dim"), 17))
    with pytest.raises(InputError, match=r"m gives \(2, 16\), and not what its metadata says"):
        model_of(model.SerializeToString(), "onnx", "m").embed(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (("model", "embedding_dim"), 2**16, "the weights in m do not fit its metadata"),
        (("model", "backbone"), "iresnet18", "the weights in m do not fit its metadata"),
        (("model", "backbone"), "./evil.py", "holds the weights of a network of your own, ./evil.py, without"),
        (("model", "network"), "a digest", "holds the weights of a network of your own, tiny, without"),
        (("model", "backbone"), "tony", "no backbone called 'tony'"),
    ],
)
def test_metadata_that_names_another_network_is_refused(at, value, says, written):
    data = save(load(written("safetensors")), metadata={FACTS: json.dumps(changed(FACTS_HERE, at, value))})
    with pytest.raises(InputError, match=says):
        model_of(data, "safetensors", "m")


def test_the_program_and_pickles_in_an_archive_are_never_read(written, embedder):
    """With code in their place a .pt2 gives the same embeddings; a weight that is too short is refused."""
    images = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    evil = repacked(written("torch"), ("models/model.json", "sample_inputs/model.pt"), b"cos\nabort\n(tR.")
    with torch.no_grad():
        torch.testing.assert_close(model_of(evil, "torch", "m").embed(images), embedder(images))
    with pytest.raises(InputError, match="is damaged, or no torch file"):
        model_of(repacked(written("torch"), ("weights/weight_0",), b"1234"), "torch", "m")
    with pytest.raises(InputError, match="compressed"):
        model_of(repacked(written("torch"), ("weights/weight_0",), b"0" * 9999, zipfile.ZIP_DEFLATED), "torch", "m")
    with pytest.raises(InputError, match=r"no weights where torch 2\.9 and later put them"):
        model_of(repacked(written("torch"), (), b"", without="model_weights_config.json"), "torch", "m")


def repacked(data, endings, content, compression=zipfile.ZIP_STORED, without="nothing"):
    """Return an archive with other content in the members that end so, and without one."""
    buffer, hits = io.BytesIO(), 0
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", compression) as new:
        for name in (name for name in old.namelist() if not name.endswith(without)):
            hits += name.endswith(endings)
            new.writestr(name, content if name.endswith(endings) else old.read(name))
    assert hits == len(endings)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("m.pth", r"is in no format that lossbench exports \(.onnx, .safetensors or .pt2\)"),
        ("m.onnx", "cannot be read"),
    ],
)
def test_other_files_are_refused(name, says, tmp_path):
    with pytest.raises(InputError, match=says):
        read_model(tmp_path / name)
