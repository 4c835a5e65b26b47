"""lossbench: which loss should I train my face-recognition network with?

Public names, imported on first use so that ``import lossbench`` stays light (no torch):

- `run`, `load_results`, `load_backbone`: a benchmark, its runs as a DataFrame, and the model of one run.
- `InputError`: what all of them raise where an argument is wrong: one line.
- `Head`, `Mix`: what a loss plugin is; `margin_softmax`, `margin_cross_entropy`, `sum_over_classes`, `cosine`,
  `linear`, `angle`, `add_angle`, `own_cosine`, `is_own`, `count_at`: what it is made of.
- `heads`, `load_head`: the losses there are, and one of them ready to train.
- `metrics`: pure functions on embeddings.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str

    from lossbench import metrics as metrics
    from lossbench.cli.notebook import run
    from lossbench.errors import InputError
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
        sum_over_classes,
    )
    from lossbench.losses.loading import load_head
    from lossbench.losses.registry import heads
    from lossbench.results.loading import load_backbone, load_results

__all__ = [
    "Head",
    "InputError",
    "Mix",
    "__version__",
    "add_angle",
    "angle",
    "cosine",
    "count_at",
    "heads",
    "is_own",
    "linear",
    "load_backbone",
    "load_head",
    "load_results",
    "margin_cross_entropy",
    "margin_softmax",
    "metrics",
    "own_cosine",
    "run",
    "sum_over_classes",
]

_HOME = {
    **dict.fromkeys(__all__, "lossbench.losses.head"),
    "InputError": "lossbench.errors",
    "heads": "lossbench.losses.registry",
    "load_backbone": "lossbench.results.loading",
    "load_head": "lossbench.losses.loading",
    "load_results": "lossbench.results.loading",
    "run": "lossbench.cli.notebook",
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
