"""Losses that are a sum over very many classes, and no softmax, in blocks over the classes.

A block of cosines exists only while it is used; the backward pass computes it again, and the gradient of the weights is
the only other large tensor. Written with the whole [B, C], such a loss keeps the normalised weights and each of its
steps, and takes as much memory as pytorch-metric-learning's ArcFace. See `blocked_softmax` for the size of blocks.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lossbench.losses.blocked_softmax import EPS, blocks_of, cosines, pass_on, plan

#: cosines [B, n], which of them are with the own class [B, n], parameters -> any shape that does not depend on n
Part = Callable[..., Tensor]

WHOLE_NUMBERS = 2**22  # up to 16 MiB of cosines are one block, and torch's own backward pass is the fastest


def summed(unit: Tensor, weight: Tensor, labels: Tensor, part: Part, *parameters: Tensor) -> Tensor:
    """Return the sum of ``part(cosines, own, *parameters)`` over blocks of classes.

    Args:
        unit: [B, D] unit rows, float32 or wider.
        weight: [C, D] class weights, any norm, any float dtype.
        labels: [B] int64 in 0..C-1; anything else raises (IndexError on the CPU).
        part: what a block of n classes adds; `own` is true where a column is the row's own class.
        parameters: float tensors that `part` takes and that get gradients.

    Raises:
        ValueError: in the backward pass, where `part` captures a tensor to train; see `refuse_captured`.
    """
    found: Tensor = _Summed.apply(unit, weight, labels, part, *parameters)
    return found


class _Summed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, unit: Tensor, weight: Tensor, labels: Tensor, part: Part, *parameters: Tensor) -> Tensor:
        ctx.plan, ctx.part = plan(unit.device.type, len(unit), weight.shape, plain=False), part
        weight[:, 0].index_select(0, labels)  # which refuses a label that is no class
        inverse = torch.empty(len(weight), dtype=unit.dtype, device=unit.device)
        total: Tensor | None = None
        with torch.autocast(unit.device.type, enabled=False):
            for block in blocks_of(ctx.plan, weight):
                rows = weight[block].to(unit.dtype)
                inverse[block] = rows.norm(dim=-1).clamp_min_(EPS).reciprocal_()
                cos = cosines(unit, rows, inverse[block])
                added = part(cos, _own(labels, block, cos), *parameters)
                total = added if total is None else total + added
        ctx.save_for_backward(unit, weight, labels, inverse, *parameters)
        assert total is not None, "there is a class"
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        unit, weight, labels, inverse, *parameters = ctx.saved_tensors
        grad_total = grad_total.clone()  # that of a single class's sum is the same memory, which pass_on uses up
        grad_unit = torch.zeros_like(unit)
        grad_weight = torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        of_parameters = [torch.zeros_like(parameter) for parameter in parameters]
        with torch.autocast(unit.device.type, enabled=False):
            for block in blocks_of(ctx.plan, weight):
                rows, inv = weight[block].to(unit.dtype), inverse[block]
                cos = cosines(unit, rows, inv)
                with torch.enable_grad():
                    variables = [tensor.detach().requires_grad_() for tensor in (cos, *parameters)]
                    added = ctx.part(variables[0], _own(labels, block, cos), *variables[1:])
                    if block.start == 0:
                        refuse_captured(added, variables)
                    # zeros where this block does not use a parameter
                    grad, *others = torch.autograd.grad(added, variables, grad_total, materialize_grads=True)
                    del variables, added
                for sum_, other in zip(of_parameters, others, strict=True):
                    sum_ += other
                out = None if grad_weight is None else grad_weight[block]
                pass_on(grad.contiguous(), cos, unit, rows, inv, grad_unit, out)
        return grad_unit, grad_weight, None, None, *of_parameters


def refuse_captured(found: Tensor, given: Sequence[Tensor]) -> None:
    """Refuse a result that depends on tensors to train other than those it was given: in blocks they would not train.

    Raises:
        ValueError: it does; the message has the shape of one of them.
    """
    given_nodes = {tensor.grad_fn for tensor in given}
    nodes, seen = [found.grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in given_nodes or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None and not any(leaf is tensor for tensor in given):
            raise ValueError(
                f"`part` uses a tensor of shape {list(leaf.shape)} that requires a gradient and is not passed to it; "
                "pass it to sum_over_classes after `part`, or detach it"
            )
        nodes += [before for before, _ in node.next_functions]


def _own(labels: Tensor, block: slice, cos: Tensor) -> Tensor:
    columns = torch.arange(block.start, block.start + cos.shape[1], device=labels.device)
    return labels.unsqueeze(1) == columns
