"""Modes that watch every operation of torch: which ask the device for something, and how much memory tensors take."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_WAITS = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}  # .item(), bool(t), nonzero, a boolean index
_INDEXED = {torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_}
_ORDERED = {"scatter", "scatter_add", "scatter_reduce", "index_add", "index_copy", "put"}


class HostTrips(TorchDispatchMode):
    """Collects in `found` what a CUDA graph cannot hold: operations that wait for the device or copy from the host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in _INDEXED:  # tagged always, but only a mask decides on the shape
            waits = any(isinstance(t, torch.Tensor) and t.dtype == torch.bool for t in args[1])
        else:
            waits = bool(_WAITS & set(func.tags))
        if torch.are_deterministic_algorithms_enabled() and _sorts(func):
            waits = True
        if waits or func.overloadpacket is torch.ops.aten.lift_fresh:  # torch.tensor(...): made on the host
            self.found.append(func.name())
        return func(*args, **(kwargs or {}))


def _sorts(func: Any) -> bool:
    """Return whether CUDA, in deterministic mode, sorts the places that are written and checks them on the host.

    What writes one value everywhere does not, nor does the gradient of an index, seen here as `index_put`.
    """
    name = func.overloadpacket.__name__
    return name == "index_put_" or (name.removesuffix("_") in _ORDERED and "value" not in func._overloadname)


class Allocations(TorchDispatchMode):
    """Counts the bytes that are allocated at a time beside the `known` tensors, in `peak` the most of them.

    What an operation allocates for itself and frees again is not seen. On fake tensors nothing is computed.
    """

    def __init__(self, known: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.alive = {t.untyped_storage()._cdata for t in known}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for made in tree_leaves(out):
            if isinstance(made, torch.Tensor) and (key := made.untyped_storage()._cdata) not in self.alive:
                storage = made.untyped_storage()
                self.alive.add(key)
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                weakref.finalize(storage, self._freed, key, storage.nbytes())
        return out

    def _freed(self, key: int, size: int) -> None:
        self.now -= size
        self.alive.discard(key)
