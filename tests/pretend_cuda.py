"""A GPU that is none: tensors that say they are on ``cuda:0`` and are computed on the CPU, under a GPU's rules.

Within `PretendCuda` what is made on, or copied to, ``cuda`` is such a tensor. Code then takes its way for a GPU, with
numbers, and what a real one would refuse is refused: tensors of two devices, operations that it does not have in
deterministic mode, products of whole numbers, numpy. Streams, graphs, speed, other bits of sums, and backward passes,
for which torch's engine wants a driver, are beyond it.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

_aten = torch.ops.aten
#: of torch.use_deterministic_algorithms, as far as a CPU has them; `bincount` with weights alone
_UNSORTED = {
    *("adaptive_max_pool2d_backward", "_adaptive_avg_pool2d_backward", "avg_pool3d_backward", "histc", "kthvalue"),
    *("median", "nanmedian", "nll_loss2d_forward", "put_", "grid_sampler_2d_backward", "upsample_bilinear2d_backward"),
    *("reflection_pad2d_backward", "max_unpool2d"),
}
_PRODUCTS = {_aten.mm, _aten.addmm, _aten.addmm_, _aten.bmm, _aten.baddbmm, _aten.mv, _aten.addmv, _aten.dot}
_TAKES_BOTH = {_aten._to_copy, _aten.copy_, _aten.index, _aten.index_put, _aten.index_put_, _aten._index_put_impl_}
_TAKES_NUMBERS = {_aten.masked_fill, _aten.masked_fill_, _aten.fill_, _aten.fill}  # beside pointwise operations


class OnCuda(Tensor):
    """A tensor on the GPU that is none; its numbers are in `inner`."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> "OnCuda":
        made = Tensor._make_wrapper_subclass(
            cls, inner.size(), inner.stride(), inner.storage_offset(), dtype=inner.dtype, device="cuda:0"
        )
        made.inner = inner
        return made

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"OnCuda({self.inner})"

    def tolist(self) -> Any:
        return self.inner.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


class PretendCuda(TorchDispatchMode):
    """Makes tensors on ``cuda`` tensors of the GPU that is none."""

    _mode_key = torch._C._TorchDispatchModeKey.FAKE  # with a mode of this kind torch does not look for a driver

    def __enter__(self) -> "PretendCuda":
        if not torch.cuda.is_available():
            torch._C._ensureCUDADeviceGuardSet()  # as FakeTensorMode: nobody switches to a device that is not there
        torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(...) is made on the CPU, and then copied
        super().__enter__()
        return self

    def __exit__(self, *stop: Any) -> None:
        super().__exit__(*stop)
        torch._C._set_only_lift_cpu_tensors(False)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: Any, kwargs: Any) -> Any:
    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = any(isinstance(leaf, OnCuda) for leaf in given)
    if (device := kwargs.get("device")) is not None:
        there = torch.device(device).type == "cuda"
        kwargs = {**kwargs, "device": torch.device("cpu")}
    if kwargs.get("pin_memory"):
        kwargs = {**kwargs, "pin_memory": False}
    _refuse(func, given, any(isinstance(word, str) and word == "prod" for word in args))
    found = func(*tree_map(_inside, args), **tree_map(_inside, kwargs))
    if not there and func.overloadpacket is not _aten.copy_:
        return found
    return return_and_correct_aliasing(func, args, kwargs, tree_map(_outside, found))


def _inside(leaf: Any) -> Any:
    return leaf.inner if isinstance(leaf, OnCuda) else leaf


def _outside(leaf: Any) -> Any:
    return OnCuda(leaf) if isinstance(leaf, Tensor) and not isinstance(leaf, OnCuda) else leaf


def _refuse(func: Any, given: list[Tensor], multiplies: bool) -> None:
    packet, name = func.overloadpacket, func.overloadpacket.__name__
    on_gpu = [leaf for leaf in given if isinstance(leaf, OnCuda)]
    if not on_gpu:
        return
    mixed = [leaf for leaf in given if not isinstance(leaf, OnCuda)]
    if torch.Tag.pointwise in func.tags or packet in _TAKES_NUMBERS:
        mixed = [leaf for leaf in mixed if leaf.ndim]
    if mixed and packet not in _TAKES_BOTH:
        shapes = [tuple(leaf.shape) for leaf in mixed]
        raise RuntimeError(f"Expected all tensors to be on the same device: {func} has {shapes} on the cpu")
    if packet in _PRODUCTS and not on_gpu[0].is_floating_point():
        raise NotImplementedError(f'"{name}_cuda" not implemented for {on_gpu[0].dtype}')
    if torch.are_deterministic_algorithms_enabled() and (
        name in _UNSORTED or (name == "bincount" and len(given) > 1) or multiplies
    ):
        raise RuntimeError(f"{name}_cuda does not have a deterministic implementation")


def moved(module: nn.Module) -> nn.Module:
    """Move a module there, as ``.to("cuda")`` cannot: it changes parameters in place, which stay of their class."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(OnCuda(parameter.detach()), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            part._buffers[name] = buffer if buffer is None else OnCuda(buffer)
    return module
