"""lossbench: which loss should I train my face-recognition network with?

Public names, imported on first use so that ``import lossbench`` stays light (no torch):

- `Head`, `Mix`: what a loss plugin is; `margin_softmax`, `margin_cross_entropy`, `cosine`, `linear`, `angle`,
  `add_angle`, `own_cosine`, `is_own`, `count_at`: what it is made of.
- `heads`, `load_head`: the losses there are, and one of them ready to train.
- `metrics`: pure functions on embeddings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from lossbench import metrics as metrics
    from lossbench.losses.head import (
        Head,
        Mix,
        add_angle,
        angle,
        cosine,
        count_at,
        is_own,
        linear,
        margin_cross_entropy,
        margin_softmax,
        own_cosine,
    )
    from lossbench.losses.loading import load_head
    from lossbench.losses.registry import heads

__all__ = [
    "Head",
    "Mix",
    "__version__",
    "add_angle",
    "angle",
    "cosine",
    "count_at",
    "heads",
    "is_own",
    "linear",
    "load_head",
    "margin_cross_entropy",
    "margin_softmax",
    "metrics",
    "own_cosine",
]

_HOME = {
    **dict.fromkeys(__all__, "lossbench.losses.head"),
    "heads": "lossbench.losses.registry",
    "load_head": "lossbench.losses.loading",
}
del _HOME["__version__"], _HOME["metrics"]


def __getattr__(name: str) -> Any:
    if name == "metrics":
        return import_module("lossbench.metrics")
    if name == "__version__":
        return import_module("lossbench.utils.machine").lossbench_version()
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'lossbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
