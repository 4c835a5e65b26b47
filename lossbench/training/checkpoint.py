"""What a run needs to continue after its process ended: written whole after every epoch, never unpickled.

Of several processes each writes a file, with the classes it holds: ``checkpoint.pt``, ``checkpoint-1.pt`` and so on.
The new files take the places of the old ones only when all of them are there.
"""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lossbench.errors import ProcessLost
from lossbench.losses.head import Head
from lossbench.results.history import Epoch
from lossbench.utils.claims import ClaimLost
from lossbench.utils.distributed import ALONE, Ranks
from lossbench.utils.files import heed_fence, write_bytes


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
    ranks: Ranks = ALONE,
) -> None:
    """Replace this process's checkpoint in `folder` by one of this moment, whole or not at all.

    Args:
        folder: the run's.
        backbone: its weights and buffers are kept.
        head: likewise.
        optimizer: its moments and step counts are kept.
        history: the epochs that are finished.
        best: the best epoch on val and both states then (``epoch``, ``backbone``, ``head``); None where the last
            epoch is what counts.
        ranks: the processes that train together; all must come here.

    Raises:
        OSError: the file cannot be written.
        ClaimLost: the first process has lost its claim to the run; none has written then.
        ProcessLost: in the others, at the same time.
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
    path = _path(folder, ranks)
    if ranks.size == 1:
        write_bytes(path, data.getbuffer())
        return
    _heed_fence_of_first(ranks)
    write_bytes(_next(path), data.getbuffer())
    ranks.wait()
    _next(path).replace(path)
    ranks.wait()


def _heed_fence_of_first(ranks: Ranks) -> None:
    """Raise in every process where the first, which alone holds the run's claim, has lost it."""
    lost: ClaimLost | None = None
    try:
        heed_fence()
    except ClaimLost as error:
        lost = error
    told = any(ranks.everyones(lost is not None))
    if lost is not None:
        raise lost
    if told:
        raise ProcessLost("the first process has lost the run to another command", said=True)


def drop_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of all processes in a run's folder."""
    for file in [*folder.glob("checkpoint*.pt"), *folder.glob(".checkpoint*.pt.*")]:
        file.unlink(missing_ok=True)


def read_checkpoint(
    folder: Path, device: torch.device, on_note: Callable[[str], None], ranks: Ranks = ALONE
) -> dict[str, Any] | None:
    """Return what `save_checkpoint` was given, as states by name, or None where there is nothing to continue from.

    A damaged file counts as none; `on_note` then gets one line. Several processes return the same epoch, or all none.
    """
    path = _path(folder, ranks)
    state = _read(path, device, on_note)
    if ranks.size == 1:
        return state
    epochs = ranks.everyones(_epochs(state))
    if _epochs(state) < max(epochs):  # stopped between the two: some files had taken their places
        state = _read(_next(path), device, on_note)
    found = ranks.everyones(_epochs(state))
    if min(found) != max(found):
        if max(epochs):
            on_note(f"the processes' checkpoints in {folder} are not of one epoch; this run starts again")
        return None
    return state


def _epochs(state: dict[str, Any] | None) -> int:
    return len(state["history"]) if state else 0


def _path(folder: Path, ranks: Ranks) -> Path:
    return folder / ("checkpoint.pt" if ranks.first else f"checkpoint-{ranks.rank}.pt")


def _next(path: Path) -> Path:
    return path.with_suffix(".next.pt")


def _read(path: Path, device: torch.device, on_note: Callable[[str], None]) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        history = [Epoch(**line) for line in state["history"]]
        return {"history": history, **{part: state[part] for part in ("backbone", "head", "optimizer", "best")}}
    except Exception as error:  # torch.load raises whatever a damaged file makes it raise
        on_note(f"{path} is damaged ({type(error).__name__}); this run starts again")
        return None
