"""One training step: the optimiser, its learning rate, and what a loss must return."""

import math

import torch
from torch import Tensor, nn

from lossbench.config import Config
from lossbench.losses.head import Head


class TrainingFailed(RuntimeError):
    """The run cannot go on; the message is its reason."""


def learning_rate(step: int, steps: int, peak: float, warmup: float) -> float:
    """Linear warm-up over the first `warmup` share of the steps, then half a cosine down to 0 (arXiv:1608.03983)."""
    warm = warmup * steps
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def _fault(loss: object) -> str:
    if not isinstance(loss, Tensor):
        return f"a {type(loss).__name__}"
    if loss.ndim:
        return f"of shape {list(loss.shape)}: end forward with .mean()"
    return "" if loss.requires_grad else "one without a gradient"


def _optimizer(backbone: nn.Module, head: Head, config: Config) -> torch.optim.Optimizer:
    parameters = [p for p in (*backbone.parameters(), *head.parameters()) if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},  # biases and normalisation
    ]
    return torch.optim.AdamW(groups, lr=1.0, fused=True)
