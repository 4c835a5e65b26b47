"""What modules keep beside parameters and buffers: numbers, lists, tensors made on first use, objects of any class."""

import copy
import operator
from collections import deque
from collections.abc import Callable, Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lossbench.utils.text import described

_OF_TORCH = frozenset(vars(nn.Module())) - {"training"}  # hooks, and the three that follow
_MEMBERS = ("_parameters", "_buffers", "_modules")
_PLAIN = (bool, int, float, complex, str, bytes, type, FunctionType, BuiltinFunctionType, ModuleType, np.ndarray)
_SEQUENCES = (list, tuple, deque)
_Seen = dict[tuple[int, int], tuple[Any, Any]]  # with the objects, so that no other one gets their identity


class NotCopied(TypeError):
    """An attribute of a module cannot be copied, so that its changes cannot be taken back; the message says why."""


class Attributes:
    """The attributes of modules and of all modules below, copied deeply at one moment.

    Tensors and modules stay the same objects in the copies, wherever they are held: `tensors` and `modules` list them
    by name. What a function keeps in a closure or as a global is out of reach.

    Raises:
        NotCopied: an attribute cannot be copied.
    """

    def __init__(self, roots: Mapping[str, nn.Module]):
        self.tensors: dict[str, Tensor] = {}
        self.modules: dict[str, nn.Module] = {}
        try:
            seen: set[int] = set()
            for name, module in roots.items():
                self._find(name, module, seen)
            self._copies = self._copied({name: _own(module) for name, module in self.modules.items()})
        except Exception as error:  # of any class's own copying
            raise NotCopied(f"an attribute cannot be copied: {described(error)}") from error
        self._members = {
            name: {kind: dict(vars(module)[kind]) for kind in _MEMBERS} for name, module in self.modules.items()
        }

    def restore(self) -> None:
        """Put all attributes back, and remove those that are new; what has not changed stays the same object.

        The numbers in `tensors` are left to the caller.
        """
        copies = self._copied(self._copies)
        for name, module in self.modules.items():
            for kind, members in self._members[name].items():
                vars(module)[kind].clear()
                vars(module)[kind].update(members)
            now = _own(module)
            for key in now.keys() - copies[name].keys():
                del vars(module)[key]
            for key, value in copies[name].items():
                if key not in now or not alike(now[key], value):
                    vars(module)[key] = value

    def changed(self) -> bool:
        """Return whether an attribute, parameter or buffer is now another one; reads no tensor's numbers."""
        for name, module in self.modules.items():
            kept = [(vars(module)[kind], members) for kind, members in self._members[name].items()]
            for now, then in (*kept, (_own(module), self._copies[name])):
                if now.keys() != then.keys() or not all(alike(now[key], value) for key, value in then.items()):
                    return True
        return False

    def difference(self, other: "Attributes") -> str:
        """Return the name of the first attribute that differs in `other`, or an empty text.

        Any two tensors are alike here: `tensors` has them by name.
        """
        for name in [*self._copies, *(name for name in other._copies if name not in self._copies)]:
            ours, theirs = self._copies.get(name, {}), other._copies.get(name, {})
            for key in [*ours, *(key for key in theirs if key not in ours)]:
                if key not in ours or key not in theirs or not alike(ours[key], theirs[key], lambda a, b: True):
                    return f"{name}.{key}"
        return ""

    def _find(self, name: str, value: object, seen: set[int]) -> None:
        """List the tensors and modules that `value` holds."""
        if isinstance(value, _PLAIN) or id(value) in seen:
            return
        seen.add(id(value))
        if isinstance(value, Tensor):
            self.tensors[name] = value
        elif isinstance(value, torch.jit.ScriptModule):
            raise TypeError(f"{name} is a TorchScript module")
        elif isinstance(value, nn.Module):
            self.modules[name] = value
            for held in (*(vars(value)[kind] for kind in _MEMBERS), _own(value)):
                for key, child in held.items():
                    self._find(f"{name}.{key}", child, seen)
        elif isinstance(value, dict):
            for key, child in value.items():
                self._find(f"{name}[{key!r}]", child, seen)
        elif isinstance(value, (*_SEQUENCES, set, frozenset)):
            for i, child in enumerate(value):
                self._find(f"{name}[{i}]", child, seen)
        else:
            for key, child in getattr(value, "__dict__", {}).items():
                self._find(f"{name}.{key}", child, seen)

    def _copied(self, values: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Copy all at once, so that what two modules share stays shared."""
        return copy.deepcopy(values, {id(same): same for same in (*self.tensors.values(), *self.modules.values())})


def _own(module: nn.Module) -> dict[str, Any]:
    return {key: value for key, value in vars(module).items() if key not in _OF_TORCH}


def alike(a: Any, b: Any, tensors: Callable[[Tensor, Tensor], bool] = operator.is_) -> bool:
    """Return whether two values hold the same to the last bit; NaN is NaN, -0.0 is not 0.0.

    Args:
        a: any object.
        b: any object.
        tensors: whether two tensors count as the same; by default only the same object does.
    """
    return _alike(a, b, tensors, {})


def _alike(a: Any, b: Any, tensors: Callable[[Tensor, Tensor], bool], seen: _Seen) -> bool:
    if a is b:
        return True
    if type(a) is not type(b) or isinstance(a, nn.Module):
        return False
    if isinstance(a, Tensor):
        return tensors(a, b)
    if isinstance(a, np.ndarray):
        if a.dtype.hasobject:
            return _alike(a.tolist(), b.tolist(), tensors, seen)
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, float | complex):
        return bool(np.asarray(a).tobytes() == np.asarray(b).tobytes())
    if isinstance(a, (*_PLAIN, set, frozenset)):
        return bool(a == b)
    if (id(a), id(b)) in seen:  # a cycle: found alike so far
        return True
    seen[id(a), id(b)] = a, b
    if isinstance(a, _SEQUENCES):
        if len(a) != len(b):
            return False
        return all(map(operator.is_, a, b)) or all(_alike(x, y, tensors, seen) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return _alike(list(a.items()), list(b.items()), tensors, seen)
    return _alike(_reduced(a), _reduced(b), tensors, seen)


def _reduced(value: Any) -> Any:
    """Return what an object is made again from, as copying does; iterators become lists."""
    parts = value.__reduce_ex__(4)
    return parts if isinstance(parts, str) else [list(p) if i > 2 and p is not None else p for i, p in enumerate(parts)]
