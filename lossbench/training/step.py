"""One training step: augmentation, forward, loss, backward, and the optimiser."""

import torch
from torch import Tensor, nn

from lossbench.config import Config
from lossbench.data.batches import augment
from lossbench.losses.head import Head


class TrainingFailed(RuntimeError):
    """The run cannot continue; the message is its reason."""


def make_optimizer(backbone: nn.Module, head: Head, config: Config) -> torch.optim.Optimizer:
    """Return AdamW or SGD over all trainable parameters; weight decay acts on those of two dimensions or more alone.

    Its learning rate is a placeholder: every step sets its own. Its first group notes in ``moved`` whether a gradient
    has reached the backbone, so that checkpoints keep it.
    """
    parameters = [p for p in (*backbone.parameters(), *head.parameters()) if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},  # biases and normalisation
    ]
    groups[0]["moved"] = False
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=1.0, momentum=0.9)  # fused, it needs every gradient from the first step on
    return torch.optim.AdamW(groups, lr=1.0, fused=True)


def train_step(
    backbone: nn.Module,
    head: Head,
    optimizer: torch.optim.Optimizer,
    images: Tensor,
    labels: Tensor,
    draws: Tensor,
    lr: float,
) -> Tensor:
    """Make one step of training and return its loss, detached.

    Once a gradient has reached the backbone, it does not wait for the device.
    The backbone runs under autocast to bfloat16 on a GPU; the head always works in float32.

    Args:
        backbone: images [B, 3, H, W] in 0..1 -> [B, D], in training mode.
        head: in training mode.
        optimizer: from `make_optimizer`.
        images: [B, 3, H, W] float32 in 0..1, not augmented yet.
        labels: [B] int64.
        draws: [7, B], what `augment` draws for these images.
        lr: this step's learning rate.

    Raises:
        TrainingFailed: the loss is not one differentiable number.
    """
    for group in optimizer.param_groups:
        group["lr"] = lr
    augmented = augment(images, draws)
    with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=images.device.type == "cuda"):
        embeddings = backbone(augmented)
    loss = head(embeddings.float(), labels)
    if fault := loss_fault(loss):
        raise TrainingFailed(f"the loss must be one differentiable number, not {fault}")
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    first = optimizer.param_groups[0]
    first["moved"] = first["moved"] or any(bool(p.grad.any()) for p in backbone.parameters() if p.grad is not None)
    optimizer.step()
    detached: Tensor = loss.detach()
    return detached


def loss_fault(loss: object) -> str:
    """Return what keeps `loss` from being one differentiable number, or an empty text."""
    if not isinstance(loss, Tensor):
        return f"a {type(loss).__name__}"
    if loss.ndim:
        return f"of shape {list(loss.shape)}: end forward with .mean()"
    return "" if loss.requires_grad else "one without a gradient"
