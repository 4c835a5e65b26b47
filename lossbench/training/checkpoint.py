"""What a run needs to continue after its process ended: written whole after every epoch, never unpickled."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.losses.head import Head
from lossbench.results.history import Epoch
from lossbench.utils.files import write_bytes


def copy_state(module: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the parameters and buffers of `module` by name, which later steps do not change."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def save_checkpoint(
    folder: Path,
    backbone: nn.Module,
    head: Head,
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
    best: dict[str, Any] | None,
) -> None:
    """Replace ``folder/checkpoint.pt`` by one of this moment, whole or not at all.

    Args:
        folder: the run's.
        backbone: its weights and buffers are kept.
        head: likewise.
        optimizer: its moments and step counts are kept.
        history: the epochs that are finished.
        best: the best epoch on val and both states then (``epoch``, ``backbone``, ``head``); None where the last
            epoch is what counts.

    Raises:
        OSError: the file cannot be written.
    """
    state = {
        "backbone": backbone.state_dict(),
        "head": head.state_dict(),
        "optimizer": optimizer.state_dict(),
        "history": [vars(epoch) for epoch in history],
        "best": best,
    }
    data = io.BytesIO()  # torch.save to a file hides a full disk behind a RuntimeError
    torch.save(state, data)
    write_bytes(folder / "checkpoint.pt", data.getbuffer())


def read_checkpoint(folder: Path, device: torch.device, on_note: Callable[[str], None]) -> dict[str, Any] | None:
    """Return what `save_checkpoint` was given, as states by name, or None where there is nothing to continue from.

    A damaged file counts as none; `on_note` then gets one line.
    """
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        history = [Epoch(**line) for line in state["history"]]
        return {"history": history, **{part: state[part] for part in ("backbone", "head", "optimizer", "best")}}
    except Exception as error:  # torch.load raises whatever a damaged file makes it raise
        on_note(f"{path} is damaged ({type(error).__name__}); this run starts again")
        return None
