"""Backbones: shapes, the embedding layer, and what happens without the weights."""

import sys

import pytest
import torch
from torch import nn

from lossbench.errors import InputError
from lossbench.models.backbones import BACKBONES, backbone_info, build_backbone
from lossbench.models.pretrained import LITE0


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.extra("imagenet") if name == LITE0 else []) for name in BACKBONES]
)
def test_every_backbone_maps_images_to_embeddings(name):
    torch.manual_seed(0)
    side = BACKBONES[name].image_size
    net = build_backbone(name, embedding_dim=24, dropout=0.3).eval()
    with torch.no_grad():
        out = net(torch.rand(2, 3, side, side))
    assert out.shape == (2, 24)
    assert torch.isfinite(out).all()
    layers = [m for m in net.modules() if isinstance(m, nn.Dropout | nn.Linear | nn.BatchNorm1d)][-3:]
    assert [type(layer) for layer in layers] == [nn.Dropout, nn.Linear, nn.BatchNorm1d]
    assert layers[0].p == 0.3


def test_tiny_and_small_are_resnet10_of_width_16_and_32():
    for name, width in (("tiny", 16), ("small", 32)):
        convolutions = [m for m in build_backbone(name).modules() if isinstance(m, nn.Conv2d)]
        assert sum(c.kernel_size == (3, 3) for c in convolutions) == 9  # and the embedding layer makes ten
        assert convolutions[0].out_channels == width


def test_what_suits_a_backbone():
    others = {"tiny": (64, 128, 0.003), "small": (64, 128, 0.003), "mobilefacenet": (112, 128, 0.001)}
    for name in (*BACKBONES, "timm:vit_tiny_patch16_224"):
        info = backbone_info(name)
        assert (info.image_size, info.embedding_dim, info.lr) == others.get(name, (112, 512, 0.001))


#: Millions of parameters as OpenVINO's Open Model Zoo publishes them (models/public/face-recognition-*-arcface):
#: insightface's networks for inference, where every batch normalisation after a convolution, and those beside the last
#: layer, are folded into it. For mobilefacenet, its paper says "less than 1 million".
PUBLISHED = {"iresnet50": 43.576, "iresnet100": 65.131, "mobilefacenet": 0.993}


def folded(net):
    """Return the number of parameters for inference, with normalisations folded into the layers beside them."""
    kinds = nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.BatchNorm1d | nn.PReLU
    layers = [layer for layer in net.modules() if isinstance(layer, kinds)]
    count = 0
    for before, layer, after in zip([None, *layers], layers, [*layers[1:], None], strict=False):
        if not isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            count += layer.weight.numel()
        elif isinstance(before, nn.Conv2d | nn.Linear):
            count += layer.num_features  # that layer's bias
        elif not isinstance(after, nn.Linear):
            count += 2 * layer.num_features  # scale and shift, before a padded convolution
    return count


@pytest.mark.parametrize("name", PUBLISHED)
def test_face_networks_have_as_many_parameters_as_published(name):
    assert folded(build_backbone(name)) / 1e6 == pytest.approx(PUBLISHED[name], abs=6e-4)


@pytest.mark.parametrize("name", ["iresnet18", "mobilefacenet"])
@pytest.mark.parametrize("side", [32, 50, 112])
def test_face_networks_take_images_of_any_size(name, side):
    torch.manual_seed(0)
    net = build_backbone(name, embedding_dim=7, image_size=side)
    out = net(torch.rand(3, 3, side, side))
    assert out.shape == (3, 7)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("name", ["iresnet18", "mobilefacenet"])
def test_the_generator_decides_the_weights_of_face_networks(name):
    def drawn(seed):
        torch.manual_seed(seed)
        return build_backbone(name, image_size=32).state_dict()

    first, same, other = drawn(0), drawn(0), drawn(1)
    assert all(torch.equal(first[key], same[key]) for key in first)
    assert sum(not torch.equal(first[key], other[key]) for key in first) > 20


def test_the_last_layers_of_an_iresnet_are_arcfaces():
    """A bias before the last normalisation, whose weight stays 1 (insightface, arcface_torch/backbones/iresnet.py)."""
    *_, linear, norm = build_backbone("iresnet18", image_size=32)[2]
    assert linear.bias is not None
    assert linear.in_features == 512 * 2 * 2
    assert not norm.weight.requires_grad
    assert norm.weight.eq(1).all()
    assert all(p.requires_grad for p in build_backbone("mobilefacenet").parameters())


@pytest.mark.parametrize(
    ("name", "pretrained", "says"),
    [
        ("resnet", None, "no backbone called 'resnet'; did you mean"),
        ("timm:", None, "no backbone called 'timm:'"),
        (
            "tiny",
            "imagenet",
            "no ImageNet weights for 'tiny'; use --backbone efficientnet_lite0, a file of weights, or",
        ),
        ("iresnet50", "imagenet", "no ImageNet weights for 'iresnet50'"),
    ],
)
def test_a_wrong_name_says_so_in_one_line(name, pretrained, says):
    with pytest.raises(InputError, match=rf"\A[^\n]*{says}[^\n]*\Z"):
        build_backbone(name, pretrained=pretrained)


def test_offline_pretrained_says_where_the_weights_belong(monkeypatch, tmp_path):
    """The proxy refuses at once, as a machine without internet does."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    for scheme in ("http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(scheme, "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"\A[^\n]*put it at [^\n]*checkpoints/resnet18-\w+\.pth[^\n]*\Z") as error:
        build_backbone("resnet18", pretrained="imagenet")
    assert str(tmp_path) in str(error.value)


def test_pretrained_weights_in_place_are_used(monkeypatch, tmp_path):
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(1)
    weights = models.mobilenet_v3_small().state_dict()
    file = models.MobileNet_V3_Small_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(weights, tmp_path / "hub" / "checkpoints" / file)
    net = build_backbone("mobilenet_v3_small", pretrained="imagenet")
    assert torch.equal(net[1].features[0][0].weight, weights["features.0.0.weight"])


@pytest.mark.parametrize("raised", ["ImportError", "RuntimeError()", "ImportError('operator missing\\nat line 3')"])
def test_a_torchvision_that_cannot_be_imported_is_one_line(tmp_path, monkeypatch, raised):
    """As a CPU-only torch beside a CUDA build of torchvision does, whether the error says something or not."""
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(f"raise {raised}\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    says = "operator missing" if "missing" in raised else raised.removesuffix("()")
    line = rf"\Atorchvision cannot be imported with this torch \({says}\); reinstall[^\n]*\Z"
    with pytest.raises(InputError, match=line):
        build_backbone("resnet18")


@pytest.mark.parametrize("message", ["", "no such\nmodel"])
def test_a_timm_that_cannot_build_is_one_line(tmp_path, monkeypatch, message):
    """timm is an extra that need not be here; what its libraries raise may have no message."""
    (tmp_path / "timm.py").write_text(
        f"def is_model(name): return True\n\ndef create_model(*_, **__): raise RuntimeError({message!r})\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "timm", raising=False)
    with pytest.raises(InputError, match=rf"\Atimm cannot build 'vit': {'no such' if message else 'RuntimeError'}\Z"):
        build_backbone("timm:vit")
    sys.modules.pop("timm")
