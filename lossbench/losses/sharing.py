"""Which heads share their class weights out over processes, and the weights of all classes put together again.

Those that use a parameter called ``weight`` in `margin_softmax` and `own_cosine` alone; a trial finds out. All others
are replicated: every process computes the whole loss of the whole batch, which is as exact.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn

from lossbench.losses.head import Head, Mix
from lossbench.losses.initial_rows import built_with_rows
from lossbench.losses.sharded_softmax import ClassShard
from lossbench.utils.distributed import Ranks

_IN_ANOTHER_WAY = "it uses its class weights in another way than margin_softmax"


def built_shared(
    build: Callable[[], Head], classes: int, trial: Head, ranks: Ranks, sample: float | None = None
) -> tuple[Head, dict[str, str]]:
    """Build a head that holds this process's classes, wherever that can be; see `share_out` for what is returned.

    The weights of all classes are drawn whole only where a part of the head cannot be shared out, or makes its weights
    in another way than most.

    Args:
        build: builds the head, always the same one.
        classes: C.
        trial: as for `share_out`.
        ranks: the processes.
        sample: as for `share_out`.
    """
    obstacles = {name: obstacle(part) for name, part in _losses(trial).items()}
    shared = {name for name, reason in obstacles.items() if not reason}
    built = built_with_rows(build, classes, ranks.share(classes)) if ranks.size > 1 and shared else None
    if built and built[1].keys() == shared:
        head, parts = built[0], dict(built[0].named_modules())
        for name, whole_shape in built[1].items():
            _put(parts[name], ClassShard(parts[name].weight, ranks, sample, whole=whole_shape))
    else:
        head = build()
        _share_out(head, shared, ranks, sample)
    return head, _reasons(trial, obstacles)


def _losses(head: Head) -> dict[str, Head]:
    return {name: part for name, part in head.named_modules() if isinstance(part, Head) and not isinstance(part, Mix)}


def share_out(head: Head, trial: Head, ranks: Ranks, sample: float | None = None) -> dict[str, str]:
    """Replace the weights of all classes in `head` by this process's, wherever that can be.

    Args:
        head: to train; a mix with all its parts.
        trial: another one of the same spec, with few classes, on which it is tried.
        ranks: the processes.
        sample: the share of its classes that a process scores in a step; all if None.

    Returns:
        By the name of a loss's class, an empty text, or why every process keeps and scores all of its classes.
    """
    obstacles = {name: obstacle(part) for name, part in _losses(trial).items()}
    _share_out(head, {name for name, reason in obstacles.items() if not reason}, ranks, sample)
    return _reasons(trial, obstacles)


def _share_out(head: Head, names: Iterable[str], ranks: Ranks, sample: float | None) -> None:
    parts = dict(head.named_modules())
    for name in names:
        _put(parts[name], ClassShard(parts[name].weight, ranks, sample))


def _reasons(trial: Head, obstacles: Mapping[str, str]) -> dict[str, str]:
    return {type(part).__name__: obstacles[name] for name, part in _losses(trial).items()}


def obstacle(head: Head) -> str:
    """Return why a head's class weights cannot be shared out, or an empty text."""
    weight = head._parameters.get("weight")
    if weight is None or weight.ndim not in (2, 3):
        return "it has no class weights called weight"
    embeddings = torch.linspace(-1, 1, 16 * weight.shape[-1]).mul(9).sin().view(16, -1)
    labels = torch.arange(16) // 4 % len(weight)
    losses = []
    with torch.random.fork_rng(devices=[]):
        for shared in (False, True):
            torch.manual_seed(0)
            try:
                tried = copy.deepcopy(head).train()
                if shared:
                    _put(tried, ClassShard(weight))
                losses.append(tried(embeddings, labels))
            except Exception:  # a plugin may raise anything; what it raises speaks of our own classes
                return _IN_ANOTHER_WAY if shared else "it fails on a trial batch"
    return (
        ""
        if torch.allclose(losses[0], losses[1], equal_nan=True)
        else "its loss changes with its class weights shared out"
    )


def shards_of(head: nn.Module) -> list[ClassShard]:
    """Return what has been shared out in a head."""
    return [module for module in head.modules() if isinstance(module, ClassShard)]


@contextmanager
def whole(head: nn.Module) -> Iterator[None]:
    """Let the first process's head have the weights of all classes while the context lasts; all must come here."""
    held = put_whole(head)
    try:
        yield
    finally:
        for part, shard in held:
            _put(part, shard)


def put_whole(head: nn.Module) -> list[tuple[nn.Module, ClassShard]]:
    """Put the weights of all classes back into the first process's head; return what stood in their places."""
    held: list[tuple[nn.Module, ClassShard]] = []
    for part in head.modules():
        shard = part._modules.get("weight")
        if isinstance(shard, ClassShard):
            held.append((part, shard))
    for part, shard in held:
        if (weight := shard.whole()) is not None:
            _put(part, nn.Parameter(weight))
    return held


def _put(part: nn.Module, weight: ClassShard | nn.Parameter) -> None:
    del part.weight
    part.weight = weight
