"""Additive attention scores of edges, without a tensor of (edges x channels)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from skmmg.nn._precision import in_float32

# cells of (edges x channels) that are held at a time
_CELLS = 1 << 22


@in_float32
def additive_score(
    query: Tensor, key: Tensor, vector: Tensor, ends: tuple[Tensor, Tensor], slope: float
) -> Tensor:
    r"""Score :math:`v^\top \mathrm{LeakyReLU}(q_i + k_j)` of every edge from j to i.

    A nonlinearity between sum and product leaves no way around the sums of both ends, so they are
    made for a block of edges at a time, and again on the way back.

    Parameters
    ----------
    query : Tensor of shape (n_copies, n_queries, channels)
        Vectors of the destinations.
    key : Tensor of shape (n_copies, n_keys, channels)
        Vectors of the sources.
    vector : Tensor of shape (channels,)
        :math:`v`.
    ends : (Tensor, Tensor) of shape (n_edges,)
        Query and key of every edge.
    slope : float
        Slope of the LeakyReLU below 0.

    Returns
    -------
    Tensor of shape (n_copies, n_edges)
        Scores.
    """
    return _AdditiveScore.apply(query, key, vector, *ends, slope)


class _AdditiveScore(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        vector: Tensor,
        at_query: Tensor,
        at_key: Tensor,
        slope: float,
    ) -> Tensor:
        ctx.save_for_backward(query, key, vector, at_query, at_key)
        ctx.slope = slope
        out = query.new_empty(len(query), len(at_query))
        for copy, part in _blocks(query, at_query):
            pair = query[copy].index_select(0, at_query[part])
            pair += key[copy].index_select(0, at_key[part])
            out[copy, part] = torch.nn.functional.leaky_relu_(pair, slope) @ vector
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (query, key, vector, at_query, at_key), (grad,) = ctx.saved_tensors, grads
        grad_query, grad_key = torch.zeros_like(query), torch.zeros_like(key)
        grad_vector = torch.zeros_like(vector)
        for copy, part in _blocks(query, at_query):
            pair = query[copy].index_select(0, at_query[part])
            pair += key[copy].index_select(0, at_key[part])
            slope = torch.where(pair > 0, 1.0, ctx.slope).to(pair.dtype)
            grad_vector += grad[copy, part] @ pair.mul_(slope)
            change = slope.mul_(vector).mul_(grad[copy, part].unsqueeze(1))
            grad_query[copy].index_add_(0, at_query[part], change)
            grad_key[copy].index_add_(0, at_key[part], change)
        return grad_query, grad_key, grad_vector, None, None, None


def _blocks(query: Tensor, ends: Tensor) -> Iterator[tuple[int, slice]]:
    step = max(1, _CELLS // query.shape[2])
    for copy in range(len(query)):
        for start in range(0, len(ends), step):
            yield copy, slice(start, start + step)
