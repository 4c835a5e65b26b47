"""Softmax over very many classes: own-class cosine and the log-sum-exp of the rest, in blocks over the classes.

A block of scores exists only while it is used. The backward pass uses up the cosines that were kept, or computes them
again. The gradient of the weights is the only other large tensor that it allocates.

How large a block is depends on the device. On a CPU 4 MiB stay in a cache, so 2^20 scores are fastest, and 64 MiB of
cosines in all are kept, which saves a product. A GPU has no such cache to lose and pays some 5 µs for each of the 25 or
more kernels of a block: it wants few rounds, and memory is what limits a block. With B images, C classes, D dimensions
and float32, pytorch-metric-learning's ArcFace allocates 4 (CD + BC) numbers: 980 MiB at B 128, D 512, C 100,000 and
9.6 GiB at a million. We allow ourselves 0.3 of that, 1.2 (CD + BC). CD of these are the gradient of the weights.

- Where the own class alone is changed, BC more are the cosines, kept while B <= D/4. 0.2 (CD + BC) is left for a
  block, which takes one number a score, and two where the scale has a gradient: CD/10 scores are three rounds at
  B 128, D 512, and one up to B 51, whatever C is. In all 0.27 (0.29) of what the library takes.
- Where the other classes' cosines are changed too (`others`), autograd keeps intermediate results: a block takes up to
  eight numbers a score (measured on the losses of the zoo). The cosines are computed again; CD/24 scores are six rounds
  at B 128: 0.27.
- K centers a class count as CK classes; that the nearest is found takes another 2.4 numbers a score at K = 3.

A block of 16 MiB, or 8 with `others`, is allowed in any case: up to 32,768 classes at B 128 are one round.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from lossbench.utils.device import in_any_order
from lossbench.utils.distributed import Ranks

Elementwise = Callable[[Tensor], Tensor]

BLOCK_NUMBERS = 2**20  # scores per block on a CPU: 4 MiB of float32 stay in a cache
KEEP_NUMBERS = 2**24  # up to 64 MiB of float32 in all, cosines are kept, which saves the backward pass a product
_GPU_NUMBERS = 2**22  # scores per block that a GPU always has room for; half as many where there are `others`
EPS = 1e-12  # as torch.nn.functional.normalize


class Plan(NamedTuple):
    """How many classes a block has, and whether cosines are kept for the backward pass."""

    classes: int
    keep: bool


def own_and_rest(
    unit: Tensor,
    weight: Tensor,
    labels: Tensor,
    scale: Tensor,
    others: Elementwise | None = None,
    ranks: Ranks | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the own-class cosines [B] and ``log(sum over j != y of exp(scale * others(c_j)))`` [B].

    Neither pass asks the device for anything: both can be captured in a CUDA graph.

    Args:
        unit: [B, D] unit rows, float32 or wider.
        weight: [C, D] class weights, any norm, any float dtype; or [C, K, D], of which each class's nearest counts.
        labels: [B] int64 in 0..C-1; anything else raises (IndexError on the CPU).
        scale: [B], of unit's dtype.
        others: elementwise map of the other-class cosines [B, n]; what it captures counts as constant.
        ranks: the processes that share the classes out, each with the same embeddings and with the weights of its own
            classes; `labels` then count from the first of these, and those outside are other processes' classes. What
            is returned is of all classes, and so is the gradient of `unit` and of `scale`.
    """
    if torch.compiler.is_compiling() and ranks is None:
        return _at_once(unit, weight, labels, scale, others)
    own, rest = _OwnAndRest.apply(unit, weight, labels, scale, others, ranks)
    return own, rest


def _at_once(
    unit: Tensor, weight: Tensor, labels: Tensor, scale: Tensor, others: Elementwise | None
) -> tuple[Tensor, Tensor]:
    """Do the same with the whole [B, C] at once: a compiler fuses it by itself, and a loop would hinder it."""
    with torch.autocast(unit.device.type, enabled=False):
        cos = unit @ F.normalize(weight.to(unit.dtype), dim=-1).flatten(0, -2).T
    cos = _nearest(cos, weight)[0]
    column = labels.unsqueeze(1)
    score = (cos if others is None else others(cos)) * scale.unsqueeze(1)
    return cos.gather(1, column).squeeze(1), score.scatter(1, column, -torch.inf).logsumexp(1)


class _OwnAndRest(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        unit: Tensor,
        weight: Tensor,
        labels: Tensor,
        scale: Tensor,
        others: Elementwise | None,
        ranks: Ranks | None,
    ) -> tuple[Tensor, Tensor]:
        plan = _plan_for(unit, weight, others)
        with torch.autocast(unit.device.type, enabled=False):
            inverse = torch.empty(weight.shape[:-1], dtype=unit.dtype, device=unit.device)
            rest = torch.full_like(scale, -torch.inf)
            kept = []
            for block in blocks_of(plan, weight):
                rows = weight[block].to(unit.dtype)
                inverse[block] = rows.norm(dim=-1).clamp_min_(EPS).reciprocal_()
                cos = cosines(unit, rows, inverse[block])
                if plan.keep:
                    kept.append(cos)
                cos = _nearest(cos, weight)[0]
                score = (cos if others is None else others(cos)).mul(scale.unsqueeze(1))
                _set_own(score, labels, block, torch.full_like(scale, -torch.inf))
                rest = torch.logaddexp(rest, score.logsumexp(1))
            rows = labels if ranks is None else labels.clamp(0, len(weight) - 1)
            own_rows = weight.index_select(0, rows).to(unit.dtype)
            own = (unit.view(len(unit), *(1,) * (weight.ndim - 2), -1) * own_rows).sum(-1)
            own = own * inverse.index_select(0, rows)
            own = own if own.ndim == 1 else own.amax(1)
            if ranks is not None:
                own, rest = _joined(own.masked_fill(rows != labels, 0), rest, ranks)
        ctx.save_for_backward(unit, weight, labels, scale, inverse, rest)
        ctx.plan, ctx.others, ctx.kept, ctx.ranks = plan, others, kept, ranks
        return own, rest

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_own: Tensor, grad_rest: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, Tensor | None, None, None]:
        unit, weight, labels, scale, inverse, rest = ctx.saved_tensors
        rest = rest.clamp_min(torch.finfo(rest.dtype).min)  # with one class, minus infinity minus itself is NaN
        grad_unit, grad_scale = torch.zeros_like(unit), torch.zeros_like(scale)
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        kept, ctx.kept = ctx.kept, []  # used up: a second backward pass computes them again
        with torch.autocast(unit.device.type, enabled=False):
            for block in blocks_of(ctx.plan, weight):
                rows, inv = weight[block].to(unit.dtype), inverse[block]
                every = kept.pop(0) if kept else cosines(unit, rows, inv)
                cos, nearest = _nearest(every, weight)
                share, moved = _softmax(cos, scale, rest, labels, block, ctx.others)
                share.mul_(grad_rest.unsqueeze(1))  # d loss / d score, by d score / d scale = moved
                if ctx.needs_input_grad[3]:
                    grad_scale += (share * moved).sum(1)
                del moved
                grad = share.mul_(scale.unsqueeze(1))
                if ctx.others is not None:
                    grad = _chain(ctx.others, cos, grad)
                _set_own(grad, labels, block, grad_own)
                del share, cos
                if nearest is not None:  # the other centers of a class get nothing
                    wide = torch.zeros_like(every).view(*nearest.shape, -1)
                    with in_any_order():  # each center once
                        grad = wide.scatter_(2, nearest.unsqueeze(2), grad.unsqueeze(2)).flatten(1)
                rows, inv = rows.flatten(0, -2), inv.flatten()
                out = None if grad_weight is None else grad_weight[block].flatten(0, -2)
                pass_on(grad, every, unit, rows, inv, grad_unit, out)
                del every
        if ctx.ranks is not None:
            ctx.ranks.sum_(grad_unit)
            if ctx.needs_input_grad[3]:
                ctx.ranks.sum_(grad_scale)
        return grad_unit, grad_weight, None, grad_scale if ctx.needs_input_grad[3] else None, None, None


def _joined(own: Tensor, rest: Tensor, ranks: Ranks) -> tuple[Tensor, Tensor]:
    """Return the own-class cosines [B], which one process has and the others have as 0, and the `rest` [B] of all."""
    highest = ranks.max_(rest.clone()).clamp_min_(torch.finfo(rest.dtype).min)
    own, total = ranks.sum_(torch.stack([own, (rest - highest).exp()]))
    return own, total.log() + highest


def _plan_for(unit: Tensor, weight: Tensor, others: Elementwise | None) -> Plan:
    return plan(unit.device.type, len(unit), weight.shape, plain=others is None)


def plan(device: str, batch: int, weight: Sequence[int], *, plain: bool) -> Plan:
    """Return the blocks for `batch` images and weights of shape [C, D] or [C, K, D]; the module says why.

    Example:
        >>> plan("cpu", 128, (1_000_000, 512), plain=True)
        Plan(classes=8192, keep=False)
        >>> plan("cuda", 128, (1_000_000, 512), plain=True)
        Plan(classes=400000, keep=True)
    """
    numbers, scores = math.prod(weight), batch * math.prod(weight[:-1])
    if device == "cpu":
        room, keep = BLOCK_NUMBERS, KEEP_NUMBERS
    elif plain:
        room, keep = max(_GPU_NUMBERS, numbers // 10), max(KEEP_NUMBERS, numbers // 4)
    else:
        room, keep = max(_GPU_NUMBERS // 2, numbers // 24), _GPU_NUMBERS
    return Plan(max(1024, room // max(1, batch * math.prod(weight[1:-1]))), scores <= keep)


def blocks_of(plan: Plan, weight: Tensor) -> Iterator[slice]:
    """Yield the classes of one block after the other; the last may end beyond C."""
    return (slice(start, start + plan.classes) for start in range(0, len(weight), plan.classes))


def cosines(unit: Tensor, rows: Tensor, inverse: Tensor) -> Tensor:
    """Return the cosines [B, n] with rows [n, D], or [B, n * K] with [n, K, D]."""
    return (unit @ rows.flatten(0, -2).T).mul_(inverse.flatten())


def _nearest(cos: Tensor, weight: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return each class's highest cosine [B, n], and whose it is [B, n] where classes have several centers."""
    if weight.ndim == 2:
        return cos, None
    highest, which = cos.view(len(cos), -1, weight.shape[1]).max(2)
    return highest, which


def _softmax(
    cos: Tensor, scale: Tensor, rest: Tensor, labels: Tensor, block: slice, others: Elementwise | None
) -> tuple[Tensor, Tensor]:
    """Return each other class's share of the sum [B, n] (the own class's is 0) and the cosines after `others`."""
    moved = cos if others is None else others(cos)
    score = torch.addcmul(-rest.unsqueeze(1), moved, scale.unsqueeze(1))
    _set_own(score, labels, block, torch.full_like(scale, -torch.inf))
    return score.exp_(), moved


def _chain(others: Elementwise, cos: Tensor, grad: Tensor) -> Tensor:
    with torch.enable_grad():
        variable = cos.detach().requires_grad_()
        return torch.autograd.grad(others(variable), variable, grad)[0]


def pass_on(
    grad: Tensor, cos: Tensor, unit: Tensor, rows: Tensor, inverse: Tensor, grad_unit: Tensor, out: Tensor | None
) -> None:
    """Add the gradient of `unit` to `grad_unit`, and write that of `rows` into `out` if it is there.

    Args:
        grad: [B, n], of the cosines; used up.
        cos: [B, n], used up too.
        unit: [B, D].
        rows: [n, D], any norm.
        inverse: [n], of their norms.
        grad_unit: [B, D].
        out: [n, D].
    """
    if out is not None:  # through w / ||w||: the part along w vanishes
        along = cos.mul_(grad).sum(0).mul_(inverse * inverse * (inverse < 1 / EPS))
        _into(out, grad.mul_(inverse), unit, rows, along)
    else:
        grad.mul_(inverse)
    grad_unit.addmm_(grad, rows)


def _into(out: Tensor, grad: Tensor, unit: Tensor, rows: Tensor, along: Tensor) -> None:
    """Write ``grad.T @ unit - along * rows`` into `out` [n, D], and make no other [n, D] if it need not."""
    aligned = out.storage_offset() * out.element_size() % 64 == 0  # else MKL may sum in another order
    found = out if aligned and out.dtype == unit.dtype else torch.empty_like(out, dtype=unit.dtype)
    torch.mm(grad.T, unit, out=found).addcmul_(rows, along.unsqueeze(1), value=-1)
    if found is not out:
        out.copy_(found)


def _set_own(scores: Tensor, labels: Tensor, block: slice, values: Tensor) -> None:
    """Write `values` [B] where the own class is among the block's columns, without asking the device where."""
    column = labels - block.start
    inside = ((column >= 0) & (column < scores.shape[1])).unsqueeze(1)
    column = column.clamp(0, scores.shape[1] - 1).unsqueeze(1)
    with in_any_order():  # one place a row
        scores.scatter_(1, column, torch.where(inside, values.unsqueeze(1), scores.gather(1, column)))
