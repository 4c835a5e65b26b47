"""What a run leaves behind beside its record: weights, embeddings, timings, facts of the machine."""

import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from lossbench import __version__
from lossbench.backbones import build_backbone
from lossbench.building import load_head, plugin_fingerprint
from lossbench.data import FaceSet
from lossbench.data.atomic import write_bytes
from lossbench.errors import InputError
from lossbench.head import Head
from lossbench.registry import UNTRAINED, describe, find_plugins, parse_spec
from lossbench.results import Record
from lossbench.train import Epoch


def save_weights(path: Path, backbone: nn.Module, head: Head | None) -> None:
    """Write the weights of both as safetensors, names prefixed ``backbone.`` and ``head.``."""
    tensors = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    if head is not None:
        tensors |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    data = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()})
    write_bytes(path, data)


def load_weights(folder: Path) -> dict[str, Tensor]:
    """Return the weights of a run, on the CPU, by the names that `save_weights` gave them.

    Raises:
        InputError: the file is missing or damaged.
    """
    path = folder / "weights.safetensors"
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); train this run again with --force") from error
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"{path} is damaged ({error}); train this run again with --force") from error


def load_model(record: Record, plugins: Iterable[str | Path] = ()) -> tuple[nn.Module, Head | None]:
    """Return backbone and head of a whole run with their weights, on the CPU, in evaluation mode.

    Args:
        record: as `load_records` returns it, with its ``folder``.
        plugins: folders of losses beside those that come along and the files that the record names.

    Returns:
        The head is None for the untrained backbone.

    Raises:
        InputError: no such loss here, a plugin that has changed since, or weights that are damaged or do not fit.
    """
    path = Path(record["folder"]) / "run.json"
    weights = load_weights(path.parent)
    try:
        config = record["protocol"]["config"]
        backbone = build_backbone(config["backbone"], embedding_dim=config["embedding_dim"], dropout=config["dropout"])
        head = None
        if record["entrant"] != UNTRAINED:
            files = [Path(file) for file in record["plugin_files"].values()]
            known = {p.name: p for p in map(describe, filter(Path.is_file, files))} | find_plugins(plugins)
            spec = parse_spec(record["entrant"], known)
            head = load_head(spec, num_classes=record["people"]["train"], embedding_dim=config["embedding_dim"])
            if plugin_fingerprint(head) != record["plugin"]:
                raise InputError(f"the loss '{record['entrant']}' has changed since {path} was written; train it again")
        for name, module in (("backbone", backbone), ("head", head)):
            if module is not None:
                own = {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}
                module.load_state_dict(own)
                module.eval()
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{path} does not say what was trained ({error!r}); train this run again with --force"
        ) from error
    except RuntimeError as error:  # of load_state_dict; its other lines name the tensors
        reason = str(error).splitlines()[0]
        raise InputError(f"the weights in {path.parent} do not fit ({reason}); train this run again") from error
    return backbone.to(memory_format=torch.channels_last), head  # as it was trained: the last bits depend on it


def embedding_arrays(embeddings: dict[str, Tensor], faces: FaceSet, repeat: int) -> dict[str, Any]:
    """Return what ``embeddings.npz`` holds: per part the embeddings [N, D], labels, people, and file names."""
    arrays: dict[str, Any] = {}
    for name, part in faces.split(repeat).parts():
        arrays[name] = embeddings[name].numpy()
        arrays[f"{name}_labels"] = np.asarray(part.labels)
        arrays[f"{name}_people"] = np.asarray(part.people)
        arrays[f"{name}_files"] = np.asarray([faces.names[row] for row in part.rows])
    return arrays


def save_arrays(path: Path, arrays: dict[str, Any]) -> None:
    """Write an .npz file whole or not at all."""
    half = path.with_name(f".{path.name}")  # numpy adds no suffix to a name that ends in .npz
    np.savez(half, **arrays)
    half.replace(path)


def timings(epochs: Sequence[Epoch], seconds: float) -> dict[str, float]:
    """Return images/s of the training alone, its seconds, and those of the whole run."""
    timed = epochs[1:] or epochs  # the first epoch warms up: kernels are chosen, memory is laid out
    training = sum(epoch.seconds for epoch in timed)
    return {
        "images_per_second": sum(epoch.images for epoch in timed) / training if timed else float("nan"),
        "training_seconds": sum(epoch.seconds for epoch in epochs),
        "seconds": seconds,
    }


def peak_memory_mib(device: torch.device) -> float | None:
    """Peak memory of the device; on the CPU of the whole process so far, None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if platform.system() == "Darwin" else peak / 2**10


def machine_facts(device: torch.device) -> dict[str, Any]:
    """Return what the machine and the software were."""
    return {
        "lossbench": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
    }
