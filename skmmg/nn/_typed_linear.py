"""A linear map per node type, on states that are stacked type after type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from skmmg.nn._linear import in_blocks, product, weight_gradient
from skmmg.nn._memory import new_empty
from skmmg.nn._precision import narrow

Gradients = tuple[Tensor, list[Tensor], list[Tensor]]


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
        weights, grad = parameters[: len(ctx.slices)], grads[0]
        if torch.is_grad_enabled():
            found = _differentiable_gradients(grad, h, weights, ctx.slices)
        else:
            found = _gradients(grad, h, weights, ctx.slices)
        grad_h, of_weights, of_biases = found
        return grad_h, None, None, *of_weights, *of_biases


def _gradients(
    grad: Tensor, h: Tensor, weights: Sequence[Tensor], slices: Sequence[slice]
) -> Gradients:
    """Gradients of the states, the weights and the biases."""
    grad_h = new_empty(h, *h.shape)
    wide = torch.promote_types(h.dtype, torch.float32)  # 16 bits lose what many blocks add
    of_weights = [torch.zeros_like(weight, dtype=wide) for weight in weights]
    of_biases = [weight.new_zeros(len(weight), dtype=wide) for weight in weights]
    for part, weight, of_weight, of_bias in zip(
        slices, weights, of_weights, of_biases, strict=True
    ):
        for of_set, x, of_x in zip(grad[:, part], h[:, part], grad_h[:, part], strict=True):
            for g, rows, of_rows in in_blocks(of_set, x, of_x):
                near = g.contiguous()
                of_rows.copy_(product(near, weight.t()))
                of_weight += weight_gradient(near, rows.contiguous())
                of_bias += near.sum(0, dtype=wide)
    return grad_h, of_weights, of_biases


def _differentiable_gradients(
    grad: Tensor, h: Tensor, weights: Sequence[Tensor], slices: Sequence[slice]
) -> Gradients:
    parts = [(grad[:, part], h[:, part]) for part in slices]
    of_states = [g @ weight for (g, _), weight in zip(parts, weights, strict=True)]
    of_weights = [torch.einsum("mno,mni->oi", g, x) for g, x in parts]
    return torch.cat(of_states, 1), of_weights, [g.sum((0, 1)) for g, _ in parts]


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
        out = new_empty(h, n_nodes, n_sets, width).transpose(0, 1)
    else:
        out = new_empty(h, n_sets, n_nodes, width)
    for part, weight, bias in zip(slices, weights, biases, strict=True):
        for x, y in zip(h[:, part], out[:, part], strict=True):
            for rows, of_rows in in_blocks(x, y):
                of_rows.copy_(product(rows, weight, bias))
    return out
