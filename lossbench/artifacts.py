"""What a run leaves behind beside its record: weights, embeddings, timings, facts of the machine."""

import platform
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lossbench import __version__
from lossbench.data import FaceSet
from lossbench.head import Head
from lossbench.train import Epoch


def save_weights(path: Path, backbone: nn.Module, head: Head | None) -> None:
    """Write the weights of both as safetensors, names prefixed ``backbone.`` and ``head.``."""
    tensors = {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}
    if head is not None:
        tensors |= {f"head.{name}": tensor for name, tensor in head.state_dict().items()}
    half = path.with_name(f".{path.name}")
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, half)
    half.replace(path)


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


def timings(epochs: list[Epoch], seconds: float) -> dict[str, float]:
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
