"""The training step of one of several processes: its part of a batch goes through the network, all of it to the head.

`DistributedDataParallel` averages the network's gradients. The embeddings of all parts are gathered in the batch's
order, and every process computes the same loss of them: a head's gradient of the whole batch is complete in each. Batch
normalisation is over the whole batch on GPUs, and over each process's part on a CPU, where torch cannot join it.

No step is recorded in a CUDA graph here: its length depends on the others.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lossbench.losses.head import Head
from lossbench.losses.sharded_softmax import ClassShard
from lossbench.losses.sharing import shards_of
from lossbench.training.seeds import seed_of
from lossbench.training.step import Step
from lossbench.utils.distributed import Ranks

_NORMALISATION = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def with_joined_statistics(backbone: nn.Module, device: torch.device, ranks: Ranks) -> nn.Module:
    """Return the backbone with batch normalisation over all processes where torch has that: on GPUs."""
    if ranks.size == 1 or device.type != "cuda":
        return backbone
    joined: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(backbone)  # type: ignore[no-untyped-call]
    return joined


def facts(
    backbone: nn.Module, device: torch.device, ranks: Ranks, shared: dict[str, str], sample: float | None
) -> dict[str, Any]:
    """Return what a record says of the processes of a run, and of what each class weight was trained with.

    Args:
        backbone: what was trained.
        device: this process's.
        ranks: the processes.
        shared: what `share_out` returned.
        sample: the share of the classes that a step scores; all if None.
    """
    normalises = any(isinstance(module, (*_NORMALISATION, nn.SyncBatchNorm)) for module in backbone.modules())
    over = "the whole batch" if device.type == "cuda" or ranks.size == 1 else "each process's part of the batch"
    kept = "whole in every process" if ranks.size > 1 else "all in each step"
    drawn = (
        "" if sample is None else f"; a step scores a share of {sample:g} of them, or as many as its batch has images"
    )
    how = f"shared out over {ranks.size} processes{drawn}" if ranks.size > 1 else drawn.removeprefix("; ")
    return {
        "count": ranks.size,
        "batch_normalisation": f"over {over}" if normalises else None,
        "class_weights": {name: f"{kept}: {reason}" if reason else how for name, reason in shared.items()},
        "cuda_graphs": False,
    }


class ParallelStep(Step):
    """Makes steps like `Step`, one process's share of each; also steps that sample class centers in one process."""

    def __init__(
        self,
        backbone: nn.Module,
        head: Head,
        optimizer: torch.optim.Optimizer,
        shape: Sequence[int],
        device: torch.device,
        ranks: Ranks,
        *,
        on_note: Callable[[str], None] = lambda note: None,
    ):
        """Make the static tensors for this process's part.

        Args:
            backbone: as for `Step`.
            head: its classes shared out already.
            optimizer: of the backbone and of this process's classes.
            shape: B, H, W, 3 of the whole batch.
            device: this process's own.
            ranks: the processes.
            on_note: as for `Step`.
        """
        network = _distributed(backbone, shape, device) if ranks.size > 1 else backbone
        self.ranks, self.count, self.mine = ranks, shape[0], ranks.share(shape[0])
        part = self.mine.stop - self.mine.start
        super().__init__(network, head, optimizer, (part, *shape[1:]), device, on_note=on_note)
        self._plans = ()
        self.labels = torch.zeros(self.count, dtype=torch.int64, device=device)
        self._seed, self._steps = torch.initial_seed(), 0

    def whole(self) -> None:
        """Do a step on the static tensors: of the network, and of this process's classes."""
        super().whole()
        for shard in shards_of(self.head):
            update_drawn(shard, self.optimizer)

    def _embed(self) -> Tensor:
        if self.ranks.size == 1:
            return super()._embed()
        with self._own_draws():
            part = super()._embed()
        gathered: Tensor = _Gathered.apply(part.float(), self.mine, self.count, self.ranks)
        return gathered

    @contextmanager
    def _own_draws(self) -> Iterator[None]:
        """Let the network's dropout draw otherwise in each process, and leave the head's draws the same in all."""
        if torch.initial_seed() != self._seed:  # a new epoch
            self._seed, self._steps = torch.initial_seed(), 0
        self._steps += 1
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed_of(self._seed, self._steps, "network", self.ranks.rank))
            yield


def _distributed(backbone: nn.Module, shape: Sequence[int], device: torch.device) -> nn.Module:
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    if not trained:  # it takes none
        return backbone
    modes = [(module, module.training) for module in backbone.modules()]
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        images = torch.zeros(2, shape[3], shape[1], shape[2], device=device)
        backbone.eval()(images.to(memory_format=torch.channels_last)).sum().backward()
    unused = any(parameter.grad is None for parameter in trained)  # it must be told, or waits for their gradients
    backbone.zero_grad(set_to_none=True)
    for module, training in modes:
        module.training = training
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(backbone, device_ids=ids, find_unused_parameters=unused)


class _Gathered(torch.autograd.Function):
    """The embeddings [B, D] of all parts, from this process's."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, mine: slice, count: int, ranks: Ranks) -> Tensor:
        ctx.mine, ctx.size = mine, ranks.size
        every = part.new_zeros(count, part.shape[1])
        every[mine] = part
        return ranks.sum_(every)  # parts may differ in length, which gathering does not take

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        return gradient[ctx.mine] * ctx.size, None, None, None  # the network's gradients are averaged, not summed


@torch.no_grad()
def update_drawn(shard: ClassShard, optimizer: torch.optim.Optimizer) -> None:
    """Make the optimiser's step for the rows that a shard has drawn, and forget the draw.

    The other rows keep their values and their moments, as in Partial FC. A step counts for all rows.
    """
    if shard.drawn is None:
        return
    (index, rows), shard.drawn = shard.drawn, None
    group = next(g for g in optimizer.param_groups if any(p is shard.rows for p in g["params"]))
    state, full = optimizer.state[shard.rows], shard.rows.shape
    options = {name: value for name, value in group.items() if name != "params"}
    of_drawn = type(optimizer)([{**options, "params": [rows]}], lr=1.0, fused=group["fused"])  # type: ignore[call-arg]
    of_drawn.state[rows] = {name: _drawn(value, index, full) for name, value in state.items()}
    of_drawn.step()
    shard.rows.index_copy_(0, index, rows)
    for name, value in of_drawn.state[rows].items():
        if isinstance(value, Tensor) and value.shape == rows.shape:
            state.setdefault(name, torch.zeros_like(shard.rows)).index_copy_(0, index, value)
        else:
            state[name] = value


def _drawn(value: Any, index: Tensor, full: torch.Size) -> Any:
    return value[index] if isinstance(value, Tensor) and value.shape == full else value
