"""A file of weights that a user names: read without executing anything, its tensors checked before they are used."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.errors import InputError
from lossbench.utils.text import clipped, described, some

if TYPE_CHECKING:
    from torch import Tensor

_INSIDE = ("state_dict", "model_state_dict", "model", "net", "backbone")  # where trainers put the weights
_KINDS = ("float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")


def read_weights(path: Path) -> "tuple[dict[str, Tensor], str]":
    """Return the tensors of a file by name, and where in it they were, as words for a message. No code is executed.

    The tensors are dense, on the CPU, of an ordinary type, finite in float32, and none is larger than its data.

    Raises:
        InputError: it cannot be read, is damaged, or holds code, no tensors, or others than these.
    """
    where = f"--pretrained {path}"
    content = _content(path, where)
    whole = _tensors(content)
    inside = "" if whole else next((name for name in _INSIDE if _tensors(_entry(content, name))), "")
    found = whole or _tensors(_entry(content, inside))
    if not found:
        raise InputError(f"{where} holds no tensors by name; save them by torch.save(net.state_dict(), FILE)")
    for name, value in found.items():
        if kind := _unusable(value):
            raise InputError(
                f"{where} holds {kind}, {some([name])}; save ordinary weights: "
                "torch.save(net.float().state_dict(), FILE)"
            )
    # as float32, which a larger float64 leaves
    if bad := [name for name, v in found.items() if v.is_floating_point() and not v.float().isfinite().all()]:
        raise InputError(f"{where} holds values that are not finite, in {some(bad)}")
    return found, f" from its entry '{inside}'" if inside else ""


def _content(path: Path, where: str) -> Any:
    import pickle  # for its error alone; late, as torch is

    import torch
    from safetensors.torch import load

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about pickles that it refuses a moment later
            if path.suffix == ".safetensors":
                return load(path.read_bytes())
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{where} cannot be read ({error.strerror or error})") from error
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{where} holds code or objects, or is no file of weights; nothing in it was executed; save the tensors "
            "alone: torch.save(net.state_dict(), FILE)"
        ) from error
    except Exception as error:  # damaged bytes raise anything: IndexError, AssertionError, struct.error, MemoryError
        reason = described(error).partition(". ")[0]
        raise InputError(f"{where} is damaged, or no file of weights ({clipped(reason, 150)})") from error


def _entry(content: Any, name: str) -> Any:
    return dict.get(content, name) if isinstance(content, dict) else None


def _tensors(content: Any) -> "dict[str, Tensor]":
    """Return the tensors of a dictionary, without attributes: a file may set any, even `items` and `isfinite`."""
    from torch import Tensor

    items = dict.items(content) if isinstance(content, dict) else ()
    return {name: Tensor.detach(value) for name, value in items if isinstance(name, str) and isinstance(value, Tensor)}


def _unusable(value: "Tensor") -> str:
    """Return what is wrong with a tensor's kind, as words for a message; nothing is computed from its values."""
    import torch

    if value.is_nested:
        return "a nested tensor"
    if value.layout is not torch.strided:
        return "a sparse tensor"
    if value.device.type != "cpu":
        return "a tensor without data"  # on the device "meta"
    if value.dtype not in {getattr(torch, kind) for kind in _KINDS}:  # complex, quantised and 8-bit floating-point ones
        return f"a tensor of type {value.dtype}"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "a tensor that repeats its values"  # such as zeros(1).expand(10**13)
    return ""
