"""All that a training step changes, kept on the host: steps that were made only to try something are taken back."""

import random
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from lossbench.training.attributes import Attributes, alike


class Snapshot:
    """A copy of what a training step changes, on the host.

    That is parameters, buffers and attributes of modules, the optimiser's state, further tensors, and the state of the
    random generators of torch, NumPy and Python.

    Raises:
        NotCopied: a module has an attribute that cannot be copied.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        tensors: Mapping[str, Tensor],
        device: torch.device,
    ):
        self._optimizer, self._further, self._device = optimizer, tensors, device
        self.attributes = Attributes(modules)
        # Where the numbers are: a parameter's ``.data`` may be replaced.
        self._places = {name: tensor.detach() for name, tensor in self.attributes.tensors.items()}
        self.tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._tensors()}
        self.random = torch.get_rng_state()
        self.random_on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        self.other_random = random.getstate(), np.random.get_state()  # noqa: NPY002 (what a loss may draw from)

    def restore(self) -> None:
        """Put everything back in place: no tensor moves to another address, as a captured graph requires.

        State that the optimiser has made since becomes zero, which is what a first step starts from.
        """
        self.attributes.restore()
        with torch.no_grad():
            for name, place in self._places.items():
                tensor = self.attributes.tensors[name]
                if tensor.data_ptr() != place.data_ptr() or tensor.shape != place.shape:
                    tensor.data = place
            for name, tensor in self._tensors():
                if name in self.tensors:
                    _distinct(tensor).copy_(_distinct(self.tensors[name], like=tensor))
                else:
                    tensor.zero_()
        torch.set_rng_state(self.random)
        if self.random_on_device is not None:
            torch.cuda.set_rng_state(self.random_on_device, self._device)
        random.setstate(self.other_random[0])
        np.random.set_state(self.other_random[1])  # noqa: NPY002

    def difference(self, other: "Snapshot") -> str:
        """Return the name of the first thing that is not the same to the last bit in `other`, or an empty text."""
        if different := self.attributes.difference(other.attributes):
            return different
        generators = torch.equal(self.random, other.random) and _same(self.random_on_device, other.random_on_device)
        if not generators or not alike(self.other_random, other.other_random):
            return "the state of the random generators"
        names = [*self.tensors, *(name for name in other.tensors if name not in self.tensors)]
        return next((n for n in names if not _same(self.tensors.get(n), other.tensors.get(n))), "")

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        yield from self.attributes.tensors.items()
        for i, state in enumerate(self._optimizer.state.values()):
            yield from ((f"optimizer.{i}.{key}", value) for key, value in state.items() if isinstance(value, Tensor))
        yield from self._further.items()


def _distinct(tensor: Tensor, like: Tensor | None = None) -> Tensor:
    """Return each number of an expanded tensor once: torch refuses to write where several share a place."""
    strides = (tensor if like is None else like).stride()
    return tensor[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in strides)]


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    """Compare by bytes, so that NaN equals NaN."""
    if a is None or b is None:
        return a is b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(*(one.reshape(-1).contiguous().view(torch.uint8) for one in (a, b)))
