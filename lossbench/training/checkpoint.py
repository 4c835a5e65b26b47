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


def _copy(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def _save_checkpoint(
    folder: Path,
    backbone: nn.Module,
    head: Head,
    optimizer: torch.optim.Optimizer,
    history: list[Epoch],
    best: dict[str, Any] | None,
) -> None:
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


def _read_checkpoint(folder: Path, device: torch.device, on_note: Callable[[str], None]) -> dict[str, Any] | None:
    path = folder / "checkpoint.pt"
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        history = [Epoch(**line) for line in state["history"]]
        return {"history": history, **{part: state[part] for part in ("backbone", "head", "optimizer", "best")}}
    except Exception as error:  # torch.load raises whatever a damaged file makes it raise
        on_note(f"{path} is damaged ({type(error).__name__}); this run starts anew")
        return None
