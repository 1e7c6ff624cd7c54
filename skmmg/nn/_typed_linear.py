"""A linear map per node type, on states that are stacked type after type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def typed_linear(
    h: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], slices: Sequence[slice]
) -> Tensor:
    """(M, N, d) to (M, N, d'): every slice of the rows by its own weight (d', d) and bias (d').

    The products write where their result belongs: neither inputs nor outputs are copied.
    """
    return _TypedLinear.apply(h, tuple(slices), *weights, *biases)


class _TypedLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, h: Tensor, slices: tuple[slice, ...], *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(h, *parameters)
        ctx.slices = slices
        weights, biases = parameters[: len(slices)], parameters[len(slices) :]
        out = h.new_empty(*h.shape[:2], weights[0].shape[0])
        for part, weight, bias in zip(slices, weights, biases, strict=True):
            for x, y in zip(h[:, part], out[:, part], strict=True):
                torch.addmm(bias, x, weight.t(), out=y)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        h, *parameters = ctx.saved_tensors
        n_types, grad = len(ctx.slices), grads[0]
        weights = parameters[:n_types]
        if torch.is_grad_enabled():
            grad_h = _differentiable_input_gradient(grad, weights, ctx.slices)
        else:
            grad_h = torch.empty_like(h)
            for part, weight in zip(ctx.slices, weights, strict=True):
                for g, x in zip(grad[:, part], grad_h[:, part], strict=True):
                    torch.mm(g, weight, out=x)
        found = [
            sum(g.t() @ x for g, x in zip(grad[:, part], h[:, part], strict=True))
            for part in ctx.slices
        ]
        return grad_h, None, *found, *(grad[:, part].sum((0, 1)) for part in ctx.slices)


def _differentiable_input_gradient(
    grad: Tensor, weights: Sequence[Tensor], slices: Sequence[slice]
) -> Tensor:
    parts = [grad[:, part] @ weight for part, weight in zip(slices, weights, strict=True)]
    return torch.cat(parts, 1)
