"""A run's weights: written as safetensors, checked when they are read, never unpickled."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from lossbench.errors import InputError, RunDamaged
from lossbench.losses.head import Head
from lossbench.models.backbones import OURS, build_backbone
from lossbench.results.store import Record
from lossbench.utils.files import is_file, write_bytes
from lossbench.utils.plugin_file import is_plugin_file, plugin_fingerprint
from lossbench.utils.text import clipped

WEIGHTS = "weights.safetensors"


def save_weights(path: Path, backbone: nn.Module, head: Head | None) -> str:
    """Write both as safetensors, names prefixed ``backbone.`` and ``head.``, and return the file's SHA-256."""
    tensors = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    if head is not None:
        tensors |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def load_backbone(record: Record, head: Head | None = None, *, network: str | None = None) -> nn.Module:
    """Return the trained backbone of a whole run, on the CPU, in evaluation mode.

    The record is untrusted, so that no file is executed because it names one: neither a head's, nor a network's.

    Args:
        record: as `load_records` returns it, with its ``folder``.
        head: a fresh one, built from the spec that the user named; it is given the run's state, in evaluation mode.
        network: the file that the user named for a backbone of their own.

    Raises:
        InputError: the run's backbone is a file of the user's, and `network` is none or another.
        RunDamaged: weights that are missing, damaged, of another run, or do not fit; or a record that does not say what
            was trained.
    """
    weights, config = _read_weights(record), built_as(record)
    built = {name: config[name] for name in ("embedding_dim", "image_size", "dropout")}
    if own := own_network(record):
        backbone = _built_from(network, record, own, built)
    else:
        if config["backbone"] in OURS:  # whose size follows from settings: a record may ask for more than memory holds
            with torch.device("meta"):
                outline = build_backbone(config["backbone"], **built)
            _fill(outline, {name: tensor.to("meta") for name, tensor in weights.items()}, "backbone.", record)
        backbone = build_backbone(config["backbone"], **built)
    _fill(backbone, weights, "backbone.", record)
    if head is not None:
        _fill(head.eval(), weights, "head.", record)
    return backbone.eval().to(memory_format=torch.channels_last)  # as it was trained: the last bits depend on it


def head_weight(record: Record) -> Tensor | None:
    """Return what a run's head keeps under `weight`, its class centers if it is [C, D]; None where it keeps nothing so.

    No plugin is executed. None also where the run has no weights: records are often passed on without them.

    Raises:
        RunDamaged: the weights are damaged, or of another run.
    """
    if not is_file(Path(record["folder"]) / WEIGHTS):
        return None
    return _read_weights(record).get("head.weight")


def own_network(record: Record) -> str | None:
    """Return the fingerprint of the network's file where a run's backbone is one of the user's own."""
    protocol = record.get("protocol")
    found: str | None = protocol.get("network") if isinstance(protocol, dict) else None
    return found


def _built_from(network: str | None, record: Record, fingerprint: str, built: dict[str, Any]) -> nn.Module:
    """Build a run's network from the file that the user named, if it is the one that was trained."""
    name = record["protocol"]["config"]["backbone"]
    if network is None:
        raise InputError(
            f"{record['folder']} was trained with a network of your own, {clipped(name)}; name its file with --backbone"
        )
    backbone = build_backbone(network, **built)
    if plugin_fingerprint(backbone) != fingerprint:
        raise InputError(
            f"--backbone {network} is not the file that {record['folder']} was trained with; its {clipped(name)}.py "
            "had other content"
        )
    return backbone


def _read_weights(record: Record) -> dict[str, Tensor]:
    path = Path(record["folder"]) / WEIGHTS
    try:
        data = path.read_bytes()
        weights = load(data)
    except OSError as error:
        raise RunDamaged(f"{path} cannot be read ({error.strerror})") from error
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise RunDamaged(f"{path} is damaged ({error})") from error
    if record.get("weights_sha256") not in (None, hashlib.sha256(data).hexdigest()):  # None: of an older lossbench
        raise RunDamaged(f"{path} is not the file that this run wrote")
    return weights


def _fill(module: nn.Module, weights: dict[str, Tensor], prefix: str, record: Record) -> None:
    own = {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    try:
        module.load_state_dict(own)
    except RuntimeError as error:  # it names the tensors in lines of their own
        reason = " ".join(str(error).split())[:300]
        raise RunDamaged(f"the weights in {record['folder']} do not fit ({reason})") from error


def built_as(record: Record) -> dict[str, Any]:
    """Return the settings that a run's backbone and images were made with.

    Raises:
        RunDamaged: the record does not say them, or they are out of range.
    """
    try:
        config = record["protocol"]["config"]
        for name, (kind, least, most) in _BUILT.items():
            if not isinstance(config[name], kind) or config[name] is True or not least <= config[name] <= most:
                raise ValueError(f"{name} is {config[name]!r}")
        if not isinstance(config["backbone"], str) or is_plugin_file(config["backbone"]):
            raise TypeError(f"backbone is {config['backbone']!r}")
    except (KeyError, TypeError, ValueError) as error:
        where = Path(record["folder"]) / "run.json"
        what = f"no {error}" if isinstance(error, KeyError) else str(error)[:100]
        raise RunDamaged(f"{where} does not say what was trained ({what})") from error
    return dict(config)


_BUILT: dict[str, tuple[Any, float, float]] = {
    "image_size": (int, 8, 1024),
    "embedding_dim": (int, 1, 2**16),
    "dropout": (int | float, 0, 0.999),
}
