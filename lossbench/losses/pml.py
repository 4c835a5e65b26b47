"""The bridge ``pml:NAME:key=value``: the losses of pytorch-metric-learning as entrants, with that library's defaults.

Names, hyper-parameters and defaults are read from its source text, so that listing them imports nothing.
"""

import ast
import importlib.util
import inspect
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lossbench.errors import InputError, did_you_mean
from lossbench.losses.plugin import REQUIRED, Parameter, Plugin
from lossbench.losses.ranges import parse_ranges
from lossbench.utils.plugin_file import first_paragraph

if TYPE_CHECKING:
    from lossbench.losses.head import Head

#: Losses that cannot be entrants, and why.
REFUSED = {
    "SelfSupervisedLoss": "it wraps another loss and takes two views of each image, not people; use the loss inside",
    "VICRegLoss": "it is self-supervised: it takes two views of each image and no people",
    "DynamicSoftMarginLoss": "it keeps the last batch's graph and fails in the second step; the library must detach it",
    "ManifoldLoss": "it takes no labels: it finds neighbours by itself",
    "CrossBatchMemory": "it wraps another loss and keeps a memory across batches; use the loss inside",
    "MultipleLosses": "it wraps other losses; write a mix such as pml:ArcFaceLoss+0.5*pml:TripletMarginLoss",
    "BaseLossWrapper": "it is a base class, no loss",
    "BaseMetricLossFunction": "it is a base class, no loss",
    "GenericPairLoss": "it is a base class, no loss",
    "WeightMixin": "it is a base class, no loss",
    "WeightRegularizerMixin": "it is a base class, no loss",
    "EmbeddingRegularizerMixin": "it is a base class, no loss",
}
_DEGREES = {
    ("ArcFaceLoss", "margin"),
    ("SubCenterArcFaceLoss", "margin"),
    ("TupletMarginLoss", "margin"),
    ("AngularLoss", "alpha"),
}
#: Ranges that hold for every loss with a parameter of that name; the library declares none.
_RANGES = parse_ranges(
    "margin >= 0, scale > 0, softmax_scale > 0, temperature > 0, gamma > 0, "
    "sub_centers >= 1, centers_per_class >= 1, num_bins >= 2"
)
_OWN_RANGES = {"LargeMarginSoftmaxLoss": parse_ranges("margin >= 1")}  # it multiplies the angle; SphereFaceLoss derives
_SIZES = {"num_classes": "num_classes", "embedding_size": "embedding_dim", "descriptors_dim": "embedding_dim"}
_HIDDEN = ("collect_stats", "weight_reg_weight", "embedding_reg_weight", "mat_based_loss")
_OBJECTS = ("embedding_regularizer", "weight_regularizer", "weight_init_func")  # None by default, and no numbers
PAIRS = 4  # images per person where a loss has no class weights


def names() -> list[str]:
    """Return the names of all losses that can be entrants."""
    return sorted(name for name in _classes() if name not in REFUSED and name in _exported())


def describe(name: str) -> Plugin:
    """Return what is known of ``pml:NAME``: its hyper-parameters with the library's defaults.

    Raises:
        InputError: no such loss, or one that cannot be an entrant; the message says why.
    """
    if name in REFUSED:
        raise InputError(f"pml:{name} cannot be an entrant: {REFUSED[name]}")
    if name not in names():
        hint = did_you_mean(name, names()) or "."
        raise InputError(f"pytorch-metric-learning has no loss called '{name}'{hint} Losses: {', '.join(names())}")
    path, node = _classes()[name]
    parameters = tuple(p for p in _parameters(name) if p.name not in _SIZES)
    return Plugin(f"pml:{name}", path, f"{name} of pytorch-metric-learning", first_paragraph(node), parameters)


def _folder() -> Path:
    found = importlib.util.find_spec("pytorch_metric_learning")  # a package at top level: this imports nothing
    if found is None or not found.submodule_search_locations:
        raise InputError("pml:... needs pytorch-metric-learning; install it with: pip install pytorch-metric-learning")
    return Path(next(iter(found.submodule_search_locations))) / "losses"


@cache
def _classes() -> dict[str, tuple[Path, ast.ClassDef]]:
    found = {}
    for path in sorted(_folder().glob("*.py")):
        for node in ast.parse(path.read_bytes()).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = (path, node)
    return found


@cache
def _exported() -> frozenset[str]:
    tree = ast.parse((_folder() / "__init__.py").read_bytes())
    return frozenset(a.asname or a.name for n in tree.body if isinstance(n, ast.ImportFrom) for a in n.names)


def _parameters(name: str) -> list[Parameter]:
    """Merge the constructor's parameters with those that it hands on to its bases by ``**kwargs``."""
    found: dict[str, Parameter] = {}
    _, node = _classes()[name]
    init = next((m for m in node.body if isinstance(m, ast.FunctionDef) and m.name == "__init__"), None)
    if init is not None:
        args = [a for a in init.args.args[1:] if a.arg not in _HIDDEN]
        positional = [None] * (len(init.args.args) - len(init.args.defaults)) + list(init.args.defaults)
        defaults = dict(zip([a.arg for a in init.args.args], positional, strict=True))
        defaults |= {a.arg: d for a, d in zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)}
        for arg in (*args, *init.args.kwonlyargs):
            if parameter := _parameter(name, arg.arg, defaults[arg.arg]):
                found[arg.arg] = parameter
    if init is None or init.args.kwarg:
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in _classes():
                found = {**{p.name: p for p in _parameters(base.id) if p.name not in found}, **found}
    return list(found.values())


def _parameter(loss: str, name: str, default: ast.expr | None) -> Parameter | None:
    declared = (_RANGES | _OWN_RANGES.get(loss, {})).get(name)
    if default is None:
        return Parameter(name, "number", REQUIRED, declared)
    try:
        value = ast.literal_eval(default)
    except ValueError:  # another object: a distance, a reducer
        return None
    if value is None and name not in (*_OBJECTS, *_SIZES):  # the library chooses
        return Parameter(name, "number | None", "None", declared)
    if not isinstance(value, bool | int | float | str):
        return None
    kind = "number (degrees)" if (loss, name) in _DEGREES else "number"
    kind = type(value).__name__ if isinstance(value, bool | str) else kind
    return Parameter(name, kind, ast.unparse(default), declared)


@cache
def head_class(name: str) -> "type[Head]":
    """Return a head that wraps the loss `name`: images of one person in each batch where it lives on pairs."""
    import pytorch_metric_learning.losses as library
    import torch
    import torch.nn.functional as F
    from torch import Tensor

    from lossbench.losses.head import Head, cosine

    wrapped = getattr(library, name)
    plugin = describe(name)
    sizes = {k: v for k, v in _SIZES.items() if k in {p.name for p in _parameters(name)}}

    class PmlHead(Head):
        """A loss of pytorch-metric-learning behind the head interface."""

        uses_norm = True  # the library decides, distance by distance
        margin_in_degrees = (name, "margin") in _DEGREES

        def __init__(self, num_classes: int, embedding_dim: int, **values: Any):
            super().__init__()
            given = {"num_classes": num_classes, "embedding_dim": embedding_dim}
            self.loss = wrapped(**{k: given[v] for k, v in sizes.items()}, **values)
            self.num_classes, self.embedding_dim = num_classes, embedding_dim
            self.samples_per_class = PAIRS if self.centers() is None else None

        def centers(self) -> Tensor | None:  # [C, K, D]
            shape = (self.num_classes, -1, self.embedding_dim)
            for attribute in ("W", "proxies", "fc", "weight"):
                rows = getattr(self.loss, attribute, None)
                if isinstance(rows, Tensor) and rows.ndim == 2:
                    return (rows if attribute == "proxies" else rows.T).reshape(shape)
            return None

        def logits(self, embeddings: Tensor) -> Tensor | None:
            centers = self.centers()
            if centers is None:
                return None
            return cosine(embeddings, centers.flatten(0, 1)).view(len(embeddings), *centers.shape[:2]).amax(2)

        def class_centers(self) -> Tensor | None:
            centers = self.centers()
            return None if centers is None or centers.shape[1] > 1 else F.normalize(centers.detach()[:, 0], dim=1)

        def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
            wide = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
            with torch.autocast(wide.device.type, enabled=False):
                loss: Tensor = self.loss(wide, labels)
            return loss

    keyword = inspect.Parameter.KEYWORD_ONLY
    PmlHead.__signature__ = inspect.Signature(  # type: ignore[attr-defined] # inspect reads it, mypy does not know it
        [inspect.Parameter(p.name, keyword, default=_default(p)) for p in plugin.parameters]
    )
    PmlHead.__qualname__ = PmlHead.__name__ = f"Pml{name}"
    return PmlHead


def _default(parameter: Parameter) -> Any:
    return inspect.Parameter.empty if parameter.default == REQUIRED else parameter.default_value
