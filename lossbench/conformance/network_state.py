"""Properties of a backbone that are about its state: in training, in evaluation, and saved."""

import copy
import random

import numpy as np
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from lossbench.conformance.network import Network, state_of, steps
from lossbench.conformance.property import Broken, Skipped, named
from lossbench.utils.text import some


@named("gradients reach every parameter")
def gradients_reach(n: Network) -> str:
    """Within three steps every parameter that is to be trained has a gradient that is not zero."""
    net = n.built()
    missed = {name for name, p in net.named_parameters() if p.requires_grad}
    count = len(missed)
    for _ in steps(n, net):
        missed -= {name for name, p in net.named_parameters() if p.grad is not None and bool(p.grad.any())}
    if missed:
        left = some([name for name, _ in net.named_parameters() if name in missed])
        raise Broken(f"none reaches {len(missed)} of {count} parameter tensors: {left}")
    return f"all {count} parameter tensors"


@named("train and eval switch")
def modes_switch(n: Network) -> str:
    """train() and eval() reach every part."""
    net = n.built()
    for mode in (False, True):
        net.train(mode)
        if stuck := [name or "the network" for name, part in net.named_modules() if part.training is not mode]:
            raise Broken(f"after {'train' if mode else 'eval'}(), {some(stuck)} is still in the other mode")
    return f"{sum(1 for _ in net.modules())} modules"


@named("evaluation changes nothing")
def evaluation_is_pure(n: Network) -> str:
    """In evaluation mode the same images give the same embeddings again, and neither state nor generator changes."""
    net = n.built(dropout=0.5).eval()
    before, images = state_of(net), n.images()
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        drawn = torch.get_rng_state()
        first, second = net(images), net(images)
        if not torch.equal(drawn, torch.get_rng_state()):
            raise Broken("it draws random numbers; is dropout called with training=self.training?")
    if changed := [name for name, value in state_of(net).items() if not torch.equal(value, before[name])]:
        raise Broken(f"{some(changed)} changes; update a state in training only: if self.training")
    if not torch.equal(first, second):
        raise Broken(f"the same images give embeddings that differ by {float((first - second).abs().max()):.1e}")
    return "same state, same embeddings"


@named("images are independent")
def images_are_independent(n: Network) -> str:
    """In evaluation mode an image's embedding does not depend on the others of its batch."""
    net = n.built()
    for _ in steps(n, net):
        pass
    images = n.images()
    with torch.no_grad():
        together = net.eval()(images)
        alone = torch.cat([net(image[None].to(memory_format=torch.channels_last)) for image in images])
    error = float((together - alone).norm() / together.norm().clamp_min(1e-12))
    if not error <= 1e-4:
        raise Broken(f"alone, an image's embedding differs by {error:.1e} (relative) from that in a batch")
    return f"relative error {error:.1e}"


@named("a seed decides everything")
def seeded(n: Network) -> str:
    """The same torch seed gives the same weights and steps, whatever Python's and NumPy's generators draw."""
    first, other = n.built(seed=0), n.built(seed=1)
    random.random()
    np.random.rand()  # noqa: NPY002 - the generator that a network would draw from
    second = n.built(seed=0)
    states = state_of(first), state_of(second), state_of(other)
    if changed := [name for name, value in states[0].items() if not torch.equal(value, states[1][name])]:
        raise Broken(f"the same torch.manual_seed gives other values of {some(changed)}; draw from torch alone")
    if all(torch.equal(value, states[2][name]) for name, value in states[0].items()):
        raise Broken("another seed gives the same weights: repeats would not differ")
    for net in (first, second):
        for _ in steps(n, net):
            random.random()
            np.random.rand()  # noqa: NPY002
    after = state_of(first), state_of(second)
    if changed := [name for name, value in after[0].items() if not torch.equal(value, after[1][name])]:
        raise Broken(f"training twice from the same seed gives other values of {some(changed)}; draw from torch alone")
    return "weights, and three steps of training"


@named("dropout acts")
def dropout_acts(n: Network) -> str:
    """A network that takes dropout uses it: in training its embeddings are drawn."""
    if n.dropout is None:
        raise Skipped("its __init__ takes no dropout")
    net, outs = n.built(dropout=0.5), []
    for seed in (0, 1):
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            outs.append(copy.deepcopy(net)(n.images()))
    if torch.equal(*outs):
        raise Broken("--dropout 0.5 changes nothing in training; use it, or take it out of __init__")
    return "at 0.5"


@named("weights are the whole state")
def state_round_trip(n: Network) -> str:
    """Another network with the saved weights gives the same embeddings."""
    net, images = n.built(), n.images()
    for _ in steps(n, net):
        pass
    state = net.state_dict()
    if odd := [name for name, value in state.items() if not isinstance(value, Tensor)]:
        raise Broken(f"state_dict holds what is no tensor: {some(odd)}; run saves tensors alone")
    data = save({name: value.contiguous().clone() for name, value in state.items()})
    other = n.built(seed=1)
    other.load_state_dict(load(data))
    with torch.no_grad():
        want, found = net.eval()(images), other.eval()(images)
    if not torch.equal(want, found):
        error = float((want - found).abs().max())
        raise Broken(f"restored, embeddings differ by {error:.1e}; keep every state in parameters or buffers")
    return f"{len(data) / 2**20:.1f} MiB"


@named("bfloat16 autocast")
def autocast(n: Network) -> str:
    """Under autocast, as on a GPU, embeddings stay close to those in float32, and gradients are finite."""
    net, images = n.built(), n.images()
    for _ in steps(n, net):
        pass
    net.eval()
    with torch.no_grad():
        want = net(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = net(images).float()
    found.square().mean().backward()
    if not found.isfinite().all() or any(p.grad is not None and not p.grad.isfinite().all() for p in net.parameters()):
        raise Broken("embeddings or gradients are not finite")
    cosine = float(nn.functional.cosine_similarity(want, found.detach()).min())
    if not cosine >= 0.9:
        raise Broken(f"embeddings point elsewhere than in float32: a cosine of {cosine:.2f}")
    return f"cosine with float32 {cosine:.4f}"
