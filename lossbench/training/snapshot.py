"""All that a training step changes, kept on the host: steps that were made only to try something are taken back."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

_PLAIN = (bool, int, float, str)


class Snapshot:
    """A copy of what a training step changes, on the host.

    That is parameters, buffers, tensors and plain numbers that a module keeps as attributes, the optimiser's state,
    further tensors, and the state of the random generators.
    """

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        optimizer: torch.optim.Optimizer,
        tensors: Mapping[str, Tensor],
        device: torch.device,
    ):
        self._modules, self._optimizer, self._further, self._device = modules, optimizer, tensors, device
        self.tensors = {name: tensor.detach().to("cpu", copy=True) for name, tensor in self._tensors()}
        self.numbers = dict(plain_numbers(modules))
        self.random = torch.get_rng_state()
        self.random_on_device = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Put everything back in place: no tensor moves to another address, as a captured graph requires.

        State that the optimiser has made since becomes zero, which is what a first step starts from.
        """
        with torch.no_grad():
            for name, tensor in self._tensors():
                tensor.copy_(self.tensors[name]) if name in self.tensors else tensor.zero_()
        for name, value in self.numbers.items():
            path, _, attribute = name.rpartition(".")
            module, _, below = path.partition(".")
            setattr(self._modules[module].get_submodule(below), attribute, value)
        torch.set_rng_state(self.random)
        if self.random_on_device is not None:
            torch.cuda.set_rng_state(self.random_on_device, self._device)

    def difference(self, other: "Snapshot") -> str:
        """Return the name of the first thing that is not the same to the last bit in `other`, or an empty text."""
        if self.numbers != other.numbers:
            return "a number that a module keeps as a plain attribute"
        if not torch.equal(self.random, other.random) or not _same(self.random_on_device, other.random_on_device):
            return "the state of the random generators"
        names = [*self.tensors, *(name for name in other.tensors if name not in self.tensors)]
        return next((n for n in names if not _same(self.tensors.get(n), other.tensors.get(n))), "")

    def _tensors(self) -> Iterator[tuple[str, Tensor]]:
        for name, module in self._modules.items():
            yield from module_tensors(module, name)
        for i, state in enumerate(self._optimizer.state.values()):
            yield from ((f"optimizer.{i}.{key}", value) for key, value in state.items() if isinstance(value, Tensor))
        yield from self._further.items()


def module_tensors(module: nn.Module, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield a module's parameters, buffers and tensor attributes by name; `name` comes before each."""
    for path, one in module.named_modules(prefix=name):
        attributes = ((key, value) for key, value in vars(one).items() if isinstance(value, Tensor))
        for own in (one.named_parameters(recurse=False), one.named_buffers(recurse=False), attributes):
            yield from ((f"{path}.{key}", value) for key, value in own)


def plain_numbers(modules: Mapping[str, nn.Module]) -> Iterator[tuple[str, bool | int | float | str]]:
    """Yield the numbers, flags and texts that modules keep as plain attributes, by name."""
    for name, module in modules.items():
        for path, one in module.named_modules(prefix=name):
            yield from ((f"{path}.{key}", value) for key, value in vars(one).items() if isinstance(value, _PLAIN))


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    """Compare by bytes, so that NaN equals NaN."""
    if a is None or b is None:
        return a is b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    return torch.equal(*(one.reshape(-1).contiguous().view(torch.uint8) for one in (a, b)))
