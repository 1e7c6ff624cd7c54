"""A linear map per node type, on states that are stacked type after type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skmmg.nn._linear import product
from skmmg.nn._precision import narrow


def typed_linear(
    h: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    slices: Sequence[slice],
    nodes_first: bool = False,
) -> Tensor:
    """(M, N, d) to (M, N, d'): every slice of the rows by its own weight (d', d) and bias (d').

    With `nodes_first` the result is laid out in memory as (N, M, d').
    """
    h, *parameters = narrow(h, *weights, *biases)
    return _TypedLinear.apply(h, tuple(slices), nodes_first, *parameters)


class _TypedLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, h: Tensor, slices: tuple[slice, ...], nodes_first: bool, *parameters: Tensor
    ) -> Tensor:
        ctx.save_for_backward(h, *parameters)
        ctx.slices = slices
        weights, biases = parameters[: len(slices)], parameters[len(slices) :]
        return _products(h, weights, biases, slices, nodes_first)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        h, *parameters = ctx.saved_tensors
        n_types, grad = len(ctx.slices), grads[0]
        weights = parameters[:n_types]
        if torch.is_grad_enabled():
            grad_h = _differentiable_input_gradient(grad, weights, ctx.slices)
        else:
            grad_h = _products(grad, [w.t() for w in weights], [None] * n_types, ctx.slices)
        pairs = [list(zip(grad[:, part], h[:, part], strict=True)) for part in ctx.slices]
        of_weights = (sum(g.t() @ x for g, x in pair) for pair in pairs)
        of_biases = (sum(g.sum(0) for g, _ in pair) for pair in pairs)
        return grad_h, None, None, *of_weights, *of_biases


def _products(
    h: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor | None],
    slices: Sequence[slice],
    nodes_first: bool = False,
) -> Tensor:
    n_sets, n_nodes, width = *h.shape[:2], weights[0].shape[0]
    if len(slices) == 1 and h.is_contiguous() and not nodes_first:
        return product(h.flatten(0, 1), weights[0], biases[0]).view(n_sets, n_nodes, width)
    if nodes_first:
        out = h.new_empty(n_nodes, n_sets, width).transpose(0, 1)
    else:
        out = h.new_empty(n_sets, n_nodes, width)
    for part, weight, bias in zip(slices, weights, biases, strict=True):
        for x, y in zip(h[:, part], out[:, part], strict=True):
            y.copy_(product(x, weight, bias))
    return out


def _differentiable_input_gradient(
    grad: Tensor, weights: Sequence[Tensor], slices: Sequence[slice]
) -> Tensor:
    parts = [grad[:, part] @ weight for part, weight in zip(slices, weights, strict=True)]
    return torch.cat(parts, 1)
