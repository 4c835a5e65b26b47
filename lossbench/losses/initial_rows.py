"""A head built with the initial weights of this process's classes alone: the same bits as the rows of all.

Nearly every head makes its class weights as ``nn.Parameter(torch.randn(num_classes, embedding_dim))``. While one is
built, such a draw is made block by block, and only the rows wanted are kept: memory for the weights of all classes is
never there. A head that does anything else with what it has drawn is not touched; it is built whole.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lossbench.losses.head import Head

BLOCK = 1024  # rows drawn at a time, a multiple of _GROUP
_GROUP = 16  # numbers that torch draws together: blocks of whole groups are what one draw would give
_OF_PARAMETERS = [getattr(torch.Tensor, name).__get__ for name in ("grad_fn", "requires_grad")]  # asked to register one


def randn_rows(shape: torch.Size, rows: slice) -> Tensor:
    """Return some rows of what ``torch.randn(shape)`` would return, and leave torch's generator as it would.

    Args:
        shape: C, D or C, K, D.
        rows: first and last of them, without a step.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> whole = torch.randn(5000, 3)
        >>> _ = torch.manual_seed(0)
        >>> bool((randn_rows(whole.shape, slice(10, 2000)) == whole[10:2000]).all())
        True
    """
    first, last = rows.start, rows.stop
    found = torch.empty(last - first, *shape[1:])
    starts = list(range(0, shape[0], BLOCK)) or [0]
    if len(starts) > 1 and (shape[0] - starts[-1]) * shape[1:].numel() < _GROUP:
        starts.pop()  # so few would be drawn otherwise
    memory = torch.empty(shape[0] - starts[-1] if len(starts) == 1 else 2 * BLOCK, *shape[1:])
    for start, stop in zip(starts, [*starts[1:], shape[0]], strict=True):
        block = memory[: stop - start].normal_()
        begin, end = max(start, first), min(stop, last)
        if begin < end:
            found[begin - first : end - first] = block[begin - start : end - start]
    return found


class _UsedOtherwise(BaseException):
    """A head has done more with its draw than to make a parameter of it. No `Exception`: plugins may catch those."""


class _Rows(TorchFunctionMode):
    """Lets draws of `classes` rows keep some rows only, and ends what uses them."""

    def __init__(self, classes: int, rows: slice):
        super().__init__()
        self.classes, self.rows = classes, rows
        self.drawn: dict[int, torch.Size] = {}  # the shape that was asked for, by address
        self._kept: list[Tensor] = []  # so that no address is used twice

    def __torch_function__(
        self, function: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function is torch.randn and not kwargs and all(isinstance(size, int) for size in args):
            shape = torch.Size(args)
            if len(shape) in (2, 3) and shape[0] == self.classes:
                found = randn_rows(shape, self.rows)
                self.drawn[found.data_ptr()] = shape
                self._kept.append(found)
                return found
        if function not in _OF_PARAMETERS and any(t.data_ptr() in self.drawn for t in _tensors([args, kwargs or {}])):
            raise _UsedOtherwise
        return function(*args, **kwargs or {})


def _tensors(given: Any) -> Iterator[Tensor]:
    if isinstance(given, Tensor):
        yield given
    elif isinstance(given, list | tuple):
        for one in given:
            yield from _tensors(one)
    elif isinstance(given, dict):
        yield from _tensors(list(given.values()))


def built_with_rows(build: Callable[[], Head], classes: int, rows: slice) -> tuple[Head, dict[str, torch.Size]] | None:
    """Build a head whose class weights have some rows alone; None if it must be built whole.

    Args:
        build: builds it, always the same one.
        classes: C.
        rows: which of the classes.

    Returns:
        The head, and by the name of every part whose ``weight`` holds these rows alone, the shape of all.

    Example:
        >>> from lossbench.losses.loading import load_head
        >>> head, parts = built_with_rows(lambda: load_head("arcface", num_classes=9, embedding_dim=4), 9, slice(3, 6))
        >>> head.weight.shape, parts
        (torch.Size([3, 4]), {'': torch.Size([9, 4])})
    """
    with _Rows(classes, rows) as mode:
        try:
            head = build()
        except _UsedOtherwise:
            return None
    weights = {name: part._parameters.get("weight") for name, part in head.named_modules() if isinstance(part, Head)}
    found = {
        name: mode.drawn.pop(weight.data_ptr())
        for name, weight in weights.items()
        if weight is not None and weight.data_ptr() in mode.drawn
    }
    return None if mode.drawn else (head, found)
