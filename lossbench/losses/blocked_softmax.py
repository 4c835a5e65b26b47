"""Softmax over very many classes: own-class cosine and the log-sum-exp of the rest, in blocks over the classes.

Beyond 64 MiB no [B, C] is kept: a block of scores exists only while it is used; the backward pass computes it again.
The gradient of the weights is the only large tensor that the backward pass allocates.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Elementwise = Callable[[Tensor], Tensor]

BLOCK_NUMBERS = 2**20  # scores per block: 4 MiB of float32 stay in a cache
KEEP_NUMBERS = 2**24  # up to 64 MiB of float32 in all, cosines are kept, which saves the backward pass a product
_EPS = 1e-12  # as torch.nn.functional.normalize


def own_and_rest(
    unit: Tensor, weight: Tensor, labels: Tensor, scale: Tensor, others: Elementwise | None = None
) -> tuple[Tensor, Tensor]:
    """Return the own-class cosines [B] and ``log(sum over j != y of exp(scale * others(c_j)))`` [B].

    Args:
        unit: [B, D] unit rows, float32 or wider.
        weight: [C, D] class weights, any norm, any float dtype.
        labels: [B] int64 in 0..C-1; anything else raises (IndexError on the CPU).
        scale: [B], of unit's dtype.
        others: elementwise map of the other-class cosines [B, n]; what it captures counts as constant.
    """
    if torch.compiler.is_compiling():
        return _at_once(unit, weight, labels, scale, others)
    own, rest = _OwnAndRest.apply(unit, weight, labels, scale, others)
    return own, rest


def _at_once(
    unit: Tensor, weight: Tensor, labels: Tensor, scale: Tensor, others: Elementwise | None
) -> tuple[Tensor, Tensor]:
    """Do the same with the whole [B, C] at once: a compiler fuses it by itself, and a loop would hinder it."""
    with torch.autocast(unit.device.type, enabled=False):
        cos = unit @ F.normalize(weight.to(unit.dtype), dim=1).T
    column = labels.unsqueeze(1)
    score = (cos if others is None else others(cos)) * scale.unsqueeze(1)
    return cos.gather(1, column).squeeze(1), score.scatter(1, column, -torch.inf).logsumexp(1)


class _OwnAndRest(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, unit: Tensor, weight: Tensor, labels: Tensor, scale: Tensor, others: Elementwise | None
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(unit.device.type, enabled=False):
            inverse = torch.empty(len(weight), dtype=unit.dtype, device=unit.device)
            rest = torch.full_like(scale, -torch.inf)
            kept = []
            for block in _blocks(unit, weight):
                rows = weight[block].to(unit.dtype)
                inverse[block] = rows.norm(dim=1).clamp_min_(_EPS).reciprocal_()
                cos = (unit @ rows.T).mul_(inverse[block])
                if len(unit) * len(weight) <= KEEP_NUMBERS:
                    kept.append(cos)
                score = (cos if others is None else others(cos)).mul(scale.unsqueeze(1))
                _set_own(score, labels, block, torch.full_like(scale, -torch.inf))
                rest = torch.logaddexp(rest, score.logsumexp(1))
            own_rows = weight.index_select(0, labels).to(unit.dtype)
            own = (unit * own_rows).sum(1) * inverse.index_select(0, labels)
        ctx.save_for_backward(unit, weight, labels, scale, inverse, rest)
        ctx.others, ctx.kept = others, kept
        return own, rest

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_own: Tensor, grad_rest: Tensor
    ) -> tuple[Tensor | None, Tensor | None, None, Tensor | None, None]:
        unit, weight, labels, scale, inverse, rest = ctx.saved_tensors
        rest = rest.clamp_min(torch.finfo(rest.dtype).min)  # with one class, minus infinity minus itself is NaN
        grad_unit, grad_scale = torch.zeros_like(unit), torch.zeros_like(scale)
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        with torch.autocast(unit.device.type, enabled=False):
            for i, block in enumerate(_blocks(unit, weight)):
                rows, inv = weight[block].to(unit.dtype), inverse[block]
                cos = ctx.kept[i] if ctx.kept else (unit @ rows.T).mul_(inv)
                share, moved = _softmax(cos, scale, rest, labels, block, ctx.others)
                share.mul_(grad_rest.unsqueeze(1))  # d loss / d score, by d score / d scale = moved
                if ctx.needs_input_grad[3]:
                    grad_scale += (share * moved).sum(1)
                grad = share.mul_(scale.unsqueeze(1))
                if ctx.others is not None:
                    grad = _chain(ctx.others, cos, grad)
                _set_own(grad, labels, block, grad_own)
                if grad_weight is not None:  # through w / ||w||: the part along w vanishes
                    along = (grad * cos).sum(0).mul_(inv * inv * (inv < 1 / _EPS))
                    grad.mul_(inv)
                    grad_weight[block] = (grad.T @ unit).addcmul_(rows, along.unsqueeze(1), value=-1)
                else:
                    grad.mul_(inv)
                grad_unit.addmm_(grad, rows)
        return grad_unit, grad_weight, None, grad_scale if ctx.needs_input_grad[3] else None, None


def _blocks(unit: Tensor, weight: Tensor) -> Iterator[slice]:
    size = max(1024, BLOCK_NUMBERS // max(1, len(unit)))
    return (slice(start, start + size) for start in range(0, len(weight), size))


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


def _set_own(scores: Tensor, labels: Tensor, block: slice, values: Tensor) -> None:
    """Write `values` [B] where the own class is among the block's columns, without asking the device where."""
    column = labels - block.start
    inside = ((column >= 0) & (column < scores.shape[1])).unsqueeze(1)
    column = column.clamp(0, scores.shape[1] - 1).unsqueeze(1)
    scores.scatter_(1, column, torch.where(inside, values.unsqueeze(1), scores.gather(1, column)))
