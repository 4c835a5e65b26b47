"""The head interface, and the few functions that losses share.

A head is the loss with its trainable class weights. It sits on top of the backbone and keeps two things apart on
purpose: `forward` is the loss, margin included; `logits` are the scores without it, so that accuracy cannot be measured
on margin logits by mistake.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lossbench.losses.blocked_softmax import KEEP_NUMBERS, own_and_rest
from lossbench.losses.blocked_sum import WHOLE_NUMBERS, refuse_captured, summed
from lossbench.losses.sharded_softmax import ClassShard
from lossbench.utils.device import in_any_order


class Head(nn.Module, ABC):
    """A loss and its class weights. A plugin file defines one public subclass of this.

    ``__init__(self, num_classes, embedding_dim, *, ...)`` takes hyper-parameters keyword-only, typed, with defaults.
    State that evolves lives in buffers, so that checkpoints carry it; evaluation never changes it. Processes that train
    together share out a parameter called ``weight`` that `margin_softmax` and `own_cosine` alone use. The attributes
    below are optional: what a loss declares about itself.
    """

    #: Which hyper-parameters are possible, as a paper would write it: "0 <= margin < pi, scale > 0". Other values are
    #: refused before anything is trained. Read from the source: a plain string of numbers, pi, <, <=, > and >=.
    ranges: str = ""

    #: Images of one person that a batch needs: 4 asks for P x K batches with K = 4; None for plain shuffling.
    samples_per_class: int | None = None

    #: True where an embedding's norm is meant to matter; `lossbench check` rejects an undeclared influence.
    uses_norm: bool = False

    #: What the paper treats as a constant although it depends on the embedding: the gradient then differs by design.
    stops_gradient: str = ""

    #: Where the loss is the plain softmax of scale * logits, as in a spec: "margin=0"; None where it never is.
    plain_at: str | None = None

    #: True where a hyper-parameter called margin is an angle in degrees; ours are radians.
    margin_in_degrees: bool = False

    @abstractmethod
    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return the scalar loss, at least float32, of `embeddings` [B, D] and `labels` [B] (int64, 0..C-1)."""

    def progress(self, share: float) -> None:
        """Receive the share of the training that is done, before every step: 0 <= share < 1. For a margin that grows.

        What follows from it goes into a buffer, in place: checkpoints carry it, and a captured graph reads it. A head
        that is never told, as in `lossbench check`, acts as at the end of training.
        """

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

    A batch carries as many images per person as the part that needs most.
    """

    def __init__(self, *parts: tuple[float, Head]):
        super().__init__()
        self.weights = [weight for weight, _ in parts]
        self.parts = nn.ModuleList(head for _, head in parts)
        self.samples_per_class = max((head.samples_per_class or 0 for _, head in parts), default=0) or None
        self.uses_norm = any(head.uses_norm for _, head in parts)
        self.stops_gradient = "; ".join(head.stops_gradient for _, head in parts if head.stops_gradient)
        self.margin_in_degrees = any(head.margin_in_degrees for _, head in parts)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Return ``sum_i w_i * loss_i``."""
        losses = [weight * part(embeddings, labels) for weight, part in zip(self.weights, self.parts, strict=True)]
        return torch.stack(losses).sum()

    def progress(self, share: float) -> None:
        """Tell every part."""
        for head in self._heads():
            head.progress(share)

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

    Example:
        >>> linear(torch.ones(1, 2), torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([0.5, 0.0]))
        tensor([[3.5000, 7.0000]])
    """
    dtype = torch.promote_types(torch.promote_types(x.dtype, weight.dtype), torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        return F.linear(x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype))


def cosine(x: Tensor, weight: Tensor) -> Tensor:
    """Return the cosines [B, C] between the rows of x [B, D] and of weight [C, D], in float32 or wider.

    Rounding may put a value one unit in the last place beyond 1: guard roots, and never use acos, whose slope is
    infinite at +-1.

    Example:
        >>> cosine(torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 2.0], [3.0, 4.0]]))
        tensor([[1.0000, 0.0000, 0.6000]])
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    return linear(F.normalize(x.to(dtype), dim=1), F.normalize(weight, dim=1))


def margin_softmax(
    embeddings: Tensor,
    weight: Tensor | ClassShard,
    labels: Tensor,
    push: Callable[[Tensor], Tensor],
    scale: float | Tensor,
    others: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Mean cross-entropy of ``scale * z``: z are the cosines, the own-class one replaced by ``push`` of it.

    Works in blocks over the classes: no [B, C] is kept, whatever C is.

    Args:
        embeddings: [B, D], any norm, any float dtype.
        weight: [C, D] class weights, any norm; or [C, K, D], of which each class's nearest counts; or what several
            processes share out of them.
        labels: [B] int64 in 0..C-1.
        push: maps the own-class cosines [B] to the margin-carrying ones [B]; differentiable, finite slope at +-1.
        scale: s, a number or one per sample [B].
        others: for losses that change the other classes too: an elementwise map of their cosines [B, n], called block
            by block; tensors that it captures ([B, 1], or numbers) count as constants.

    Returns:
        Scalar loss in float32 or wider. Source: Deng et al. 2019, arXiv:1801.07698, eq. 4.

    Example:
        >>> embeddings, weight = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
        >>> labels = torch.tensor([0, 1])
        >>> margin_softmax(embeddings, weight, labels, lambda own: own - 0.5, scale=2.0)  # -log(e / (e + 1))
        tensor(0.3133)
    """
    small = weight.ndim == 3 and len(embeddings) * weight.shape[:2].numel() <= KEEP_NUMBERS and others is None
    if small and isinstance(weight, Tensor):
        every = cosine(embeddings, weight.flatten(0, 1)).view(len(embeddings), *weight.shape[:2])
        nearest = every.detach().max(2, keepdim=True).indices
        others_of_class = torch.arange(weight.shape[1], device=weight.device) != nearest
        # The gradient is one center's where several tie, and amax, unlike max, has one that does not wait for a GPU.
        return margin_cross_entropy(every.masked_fill(others_of_class, -torch.inf).amax(2), labels, push, scale)
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, weight.dtype), torch.float32)
    unit = F.normalize(embeddings.to(dtype), dim=1)
    scales = scale.to(dtype) if isinstance(scale, Tensor) else unit.new_full((1,), scale)
    scales = scales.expand(len(unit))
    if isinstance(weight, ClassShard):
        own, rest = weight.own_and_rest(unit, labels, scales, others)
    else:
        own, rest = own_and_rest(unit, weight, labels, scales, others)
    return -F.logsigmoid(scales * push(own).to(dtype) - rest).mean()


def margin_cross_entropy(
    cos: Tensor, labels: Tensor, push: Callable[[Tensor], Tensor], scale: float | Tensor
) -> Tensor:
    """Do what `margin_softmax` does for a head that makes its cosines [B, C] in its own way.

    Example:
        >>> cosines = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> margin_cross_entropy(cosines, torch.tensor([0, 1]), lambda own: own - 0.5, scale=2.0)
        tensor(0.3133)
    """
    own = is_own(labels, cos.shape[1])  # gather and scatter would wait for a GPU in deterministic mode
    pushed = push(cos.masked_fill(~own, 0).sum(1)).to(cos.dtype)
    z = torch.where(own, pushed.unsqueeze(1), cos)
    return F.cross_entropy(z * (scale.unsqueeze(-1) if isinstance(scale, Tensor) else scale), labels)


def sum_over_classes(
    embeddings: Tensor, weight: Tensor, labels: Tensor, part: Callable[..., Tensor], *parameters: Tensor
) -> Tensor:
    """Return the sum over classes of what `part` makes of their cosines: for losses that are a sum, not a softmax.

    With many classes it works in blocks of them: no [B, C] is kept, and there is no second derivative.

    Args:
        embeddings: [B, D], any norm, any float dtype.
        weight: [C, D] class weights, any norm.
        labels: [B] int64 in 0..C-1; anything else raises (IndexError or RuntimeError on the CPU).
        part: called block by block with the cosines of n classes [B, n], float32 or wider, a mask [B, n] (bool) that is
            true at the own class, and `parameters`; returns what these classes add to the sum, in a shape that does
            not depend on n. It changes nothing in place and captures no tensor that requires a gradient.
        parameters: float tensors to train that `part` needs, such as a bias.

    Returns:
        The sum, in the shape of what `part` returns: [B] for a sum per image, of which the loss takes the mean.

    Raises:
        ValueError: `part` captures a tensor that requires a gradient. It would not be trained in blocks.

    Example:
        >>> embeddings, weight = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [3.0, 4.0]])
        >>> labels = torch.tensor([0, 1])
        >>> sum_over_classes(embeddings, weight, labels, lambda cos, own: torch.where(own, 1 - cos, cos).sum(1))
        tensor([0.6000, 0.2000])
    """
    if (compiling := torch.compiler.is_compiling()) or len(embeddings) * len(weight) <= WHOLE_NUMBERS:
        cos = cosine(embeddings, weight)
        found = part(cos, is_own(labels, len(weight)), *parameters)
        if not compiling:
            refuse_captured(found, (cos, *parameters))
        return found
    dtype = torch.promote_types(torch.promote_types(embeddings.dtype, weight.dtype), torch.float32)
    return summed(F.normalize(embeddings.to(dtype), dim=1), weight, labels, part, *parameters)


def own_cosine(embeddings: Tensor, weight: Tensor | ClassShard, labels: Tensor) -> Tensor:
    """Return the cosines [B] with the own class alone, as constants: for thresholds and statistics.

    With weights [C, K, D], those with each of its K centers: [B, K].

    Example:
        >>> embeddings, weight = torch.tensor([[2.0, 0.0], [0.0, 1.0]]), torch.tensor([[1.0, 0.0], [0.0, 3.0]])
        >>> labels = torch.tensor([0, 1])
        >>> own_cosine(embeddings, weight, labels)
        tensor([1., 1.])
    """
    dtype = torch.promote_types(embeddings.dtype, torch.float32)
    if isinstance(weight, ClassShard):
        rows = weight.own_rows(labels).to(dtype)
    else:
        rows = weight.detach().index_select(0, labels).to(dtype)
    wide = embeddings.detach().to(dtype)
    return F.cosine_similarity(wide if rows.ndim == 2 else wide.unsqueeze(1), rows, dim=-1, eps=1e-12)


def count_at(counts: Tensor, places: Tensor) -> None:
    """Add 1 to `counts` [N] at each of `places` [B] (int64), as often as it occurs; does not wait for a GPU.

    Example:
        >>> counts = torch.zeros(3)
        >>> count_at(counts, torch.tensor([2, 0, 2]))
        >>> counts
        tensor([1., 0., 2.])
    """
    with in_any_order():  # whole numbers
        counts.scatter_add_(0, places, counts.new_ones(len(places)))


def is_own(labels: Tensor, num_classes: int) -> Tensor:
    """Return [B, C] booleans, true at the own class; a label outside 0..C-1 raises.

    Example:
        >>> is_own(torch.tensor([2, 0]), num_classes=3)
        tensor([[False, False,  True],
                [ True, False, False]])
    """
    mask = torch.zeros(len(labels), num_classes, dtype=torch.bool, device=labels.device)
    return mask.scatter(1, labels.unsqueeze(1), True)


def angle(cos: Tensor) -> Tensor:
    """Return theta in 0..pi of cosines, with a finite slope everywhere: acos has none at +-1.

    Example:
        >>> torch.rad2deg(angle(torch.tensor([0.0, 0.5, -0.5])))
        tensor([ 90.0000,  60.0000, 120.0000])
    """
    return torch.atan2(_sin(cos), cos)


def add_angle(cos: Tensor, margin: float | Tensor) -> Tensor:
    """Return cos(theta + margin); where theta + margin > pi, ``cos - margin * sin(margin)``, which keeps falling.

    Args:
        cos: [B] own-class cosines.
        margin: radians, a number or one per sample [B].

    Source: Deng et al. 2019, arXiv:1801.07698, eq. 3; the fall-back is that of the authors' code.

    Example:
        >>> add_angle(torch.tensor([1.0, 0.5, 0.0]), torch.pi / 3)
        tensor([ 0.4997, -0.5000, -0.8660])
    """
    m = margin if isinstance(margin, Tensor) else cos.new_full((), margin)  # no copy from the host
    near = cos * m.cos() - _sin(cos) * m.sin()
    return torch.where(cos > -m.cos(), near, cos - m * m.sin())


def _sin(cos: Tensor) -> Tensor:
    return ((1 - cos) * (1 + cos)).clamp_min(1e-7).sqrt()  # the floor keeps the slope at +-1 finite
