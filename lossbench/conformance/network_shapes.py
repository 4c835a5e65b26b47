"""Properties of a backbone that are about its layers, its shapes and its numbers."""

import torch
from torch import Tensor, nn

from lossbench.conformance.network import Network
from lossbench.conformance.property import Broken, Skipped, named
from lossbench.errors import InputError
from lossbench.models.network_file import output_fault
from lossbench.utils.text import described, listed

_LENGTHS, _SIZES = (7, 256), (64, 100, 128)  # beside its own


@named("parameters")
def has_parameters(n: Network) -> str:
    """Some parameters are trained; how many there are is the figure."""
    parameters = list(n.built().parameters())
    count, trained = (sum(p.numel() for p in parameters if p.requires_grad or every) for every in (True, False))
    if not trained:
        raise Broken(f"none of {count:,} parameters is trained: each has requires_grad=False, or there is none")
    frozen = f"{count - trained:,} frozen" if trained < count else "all trained"
    return f"{count:,}, {frozen}; {n.image_size} px, {n.embedding_dim}-d by default"


@named("layers are registered")
def layers_are_registered(n: Network) -> str:
    """No layer or parameter hides in a list or dictionary, where it is neither trained nor saved."""
    for place, module in n.built().named_modules():
        for name, value in vars(module).items():
            if not name.startswith("_") and (kind := _hidden_in(value)):
                where = f"{place}.{name}" if place else name
                cure = f"nn.{kind}{'Dict' if isinstance(value, dict) else 'List'}"
                raise Broken(f"{where} is a {type(value).__name__} of {kind}s, not trained; make it an {cure}")
    return "no layer in a plain list"


def _hidden_in(value: object) -> str:
    held = list(value.values()) if isinstance(value, dict) else value
    for one in held if isinstance(held, list | tuple) else ():
        if isinstance(one, nn.Module | nn.Parameter):
            return "Parameter" if isinstance(one, nn.Parameter) else "Module"
    return ""


@named("embeddings of any length")
def any_length(n: Network) -> str:
    """[B, 3, S, S] -> [B, D], float, for several D and batches, one image included."""
    lengths = (n.embedding_dim, *_LENGTHS)
    for length in lengths:
        net = n.built(embedding_dim=length)
        _refuse_fault(net(n.images(3)), 3, length, f"--embedding-dim {length}")
        with torch.no_grad():
            _refuse_fault(net.eval()(n.images(1)), 1, length, f"--embedding-dim {length} and one image")
    return f"[B, D] for D of {listed([str(length) for length in lengths])}"


@named("images of any size")
def any_size(n: Network) -> str:
    """Several image sizes give embeddings; a network that takes few of them says so when it is built."""
    sizes = [n.image_size, *(size for size in _SIZES if size != n.image_size)]
    for size in sizes:
        try:
            net = n.built(image_size=size)
        except InputError as refused:
            if size == n.image_size:
                raise
            raise Skipped(f"it refuses {size} px when it is built: {refused}") from refused
        try:
            out = net(n.images(2, image_size=size))
        except Exception as error:  # a network may raise anything, and that is its finding
            cure = "use image_size, or raise ValueError in __init__ for sizes it cannot take"
            raise Broken(f"--image-size {size}: {described(error)}; {cure}") from error
        _refuse_fault(out, 2, n.embedding_dim, f"--image-size {size}")
    return f"S of {listed([str(size) for size in sizes])}"


def _refuse_fault(out: object, images: int, length: int, where: str) -> None:
    if fault := output_fault(out, images, length):
        raise Broken(f"{where}: it returns {fault}, not [{images}, {length}]")


@named("finite")
def finite(n: Network) -> str:
    """Black, white and random images have finite embeddings and gradients, in training and in evaluation."""
    plain = torch.stack([torch.zeros_like(n.images(1)[0]), torch.ones_like(n.images(1)[0])])
    images, net = torch.cat([plain, n.images(6)]), n.built()
    for mode in (True, False):
        what = f"with {'training' if mode else 'evaluation'} mode"
        net.train(mode)
        out = net(images)
        if not out.isfinite().all():
            raise Broken(f"{what}, embeddings are {_worst(out)}")
        net.zero_grad()
        out.square().mean().backward()
        for name, p in net.named_parameters():
            if p.grad is not None and not p.grad.isfinite().all():
                raise Broken(f"{what}, the gradient of {name} is {_worst(p.grad)}")
    norms = out.detach().norm(dim=1)
    return f"norms of {float(norms.min()):.3g} to {float(norms.max()):.3g}"


def _worst(values: Tensor) -> str:
    return "nan" if values.isnan().any() else "infinite"
