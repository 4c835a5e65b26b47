"""The head interface, and the few functions that losses share.

A head is the loss with its trainable class weights. It sits on top of the backbone and keeps two things apart on
purpose: `forward` is the loss, with whatever margin it has; `logits` are the scores without it, so that nobody can
measure accuracy on margin logits by mistake.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Head(nn.Module, ABC):
    """A loss and its class weights. A plugin file defines one public subclass of this.

    ``__init__(self, num_classes, embedding_dim, *, ...)`` takes hyper-parameters keyword-only, typed, with defaults.
    State that evolves lives in buffers, so that checkpoints carry it; evaluation never changes it.
    """

    #: Images of one person that a batch needs: 4 asks for P x K batches with K = 4; None for plain shuffling.
    samples_per_class: int | None = None

    @abstractmethod
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss, at least float32, of `embeddings` [B, D] and `labels` [B] (int64, 0..C-1)."""

    def logits(self, embeddings: Tensor) -> Tensor | None:
        """Return scores [B, C] WITHOUT margin, or None when the loss knows no classes.

        By default the cosines with ``self.weight`` [C, D], if there is one.
        """
        weight = getattr(self, "weight", None)
        return None if weight is None else cosine(embeddings, weight)

    def class_centers(self) -> Tensor | None:
        """Return the unit rows [C, D] that embeddings are compared with, or None; by default of ``self.weight``."""
        weight = getattr(self, "weight", None)
        return None if weight is None else F.normalize(weight.detach(), dim=1)


class Mix(Head):
    """A weighted sum of heads on the same embeddings. Scores and centers are those of the first head that has them.

    A batch carries as many images per person as the most demanding part asks for.
    """

    def __init__(self, *parts: tuple[float, Head]):
        super().__init__()
        self.weights = [weight for weight, _ in parts]
        self.parts = nn.ModuleList(head for _, head in parts)
        self.samples_per_class = max((head.samples_per_class or 0 for _, head in parts), default=0) or None

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return ``sum_i w_i * loss_i``."""
        losses = [weight * part(embeddings, labels) for weight, part in zip(self.weights, self.parts, strict=True)]
        return torch.stack(losses).sum()

    def logits(self, embeddings: Tensor) -> Tensor | None:
        """Return the scores of the first part that has classes."""
        scores = (part.logits(embeddings) for part in self._heads())
        return next((s for s in scores if s is not None), None)

    def class_centers(self) -> Tensor | None:
        """Return the centers of the first part that has classes."""
        centers = (part.class_centers() for part in self._heads())
        return next((c for c in centers if c is not None), None)

    def _heads(self) -> list[Head]:
        return [part for part in self.parts if isinstance(part, Head)]


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ weight.T + bias`` [B, C] for x [B, D], weight [C, D]: in float32 or wider, also under autocast.

    Half-precision logits round differences of a margin away; the weights themselves keep their own dtype.
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))


def cosine(x: Tensor, weight: Tensor) -> Tensor:
    """Return the cosines [B, C] between the rows of x [B, D] and of weight [C, D], in float32 or wider.

    Rounding may put a value one unit in the last place beyond 1: guard roots, never use acos (see reference, traps).
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    return linear(F.normalize(x.to(dtype), dim=1), F.normalize(weight, dim=1))


def margin_softmax(
    embeddings: Tensor,
    weight: Tensor,
    labels: Tensor,
    push: Callable[[Tensor], Tensor],
    scale: float | Tensor,
) -> Tensor:
    """Mean cross-entropy of ``scale * z``: z are the cosines, the own-class one replaced by ``push`` of it.

    Args:
        embeddings: [B, D], any norm, any float dtype.
        weight: [C, D] class weights, any norm.
        labels: [B] int64 in 0..C-1.
        push: maps the own-class cosines [B] to the margin-carrying ones [B]; differentiable, finite slope at +-1.
        scale: s, a number or one per sample [B].

    Returns:
        Scalar loss in float32 or wider. Source: Deng et al. 2019, arXiv:1801.07698, eq. 4.
    """
    cos = cosine(embeddings, weight)
    own = labels.unsqueeze(1)
    pushed = push(cos.gather(1, own).squeeze(1)).unsqueeze(1).to(cos.dtype)
    z = cos.scatter(1, own, pushed)
    return F.cross_entropy(z * (scale.unsqueeze(1) if isinstance(scale, Tensor) else scale), labels)
