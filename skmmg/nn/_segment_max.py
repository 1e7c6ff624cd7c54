"""Maxima over the edges of every segment, without a tensor of (edges x columns)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from skmmg.nn._precision import in_float32

# cells of (edges x columns) that are held at a time
_CELLS = 1 << 22


@in_float32
def segment_max(x: Tensor, src: Tensor, segment: Tensor, offsets: Tensor) -> Tensor:
    """Maximum over the sources of every segment, column by column: (N, c) -> (S, c).

    A segment without edges gets zeros. The gradient is shared evenly by the edges that attain the
    maximum; torch's own of `segment_reduce` gives each of them all of it where it is negative.

    Parameters
    ----------
    x : Tensor of shape (n_nodes, c)
        States of the sources.
    src, segment : Tensor of shape (n_edges,)
        Source and segment of every edge, sorted by segment.
    offsets : Tensor of shape (n_segments + 1,)
        First edge of every segment.
    """
    return _SegmentMax.apply(x, src, segment, offsets)


class _SegmentMax(torch.autograd.Function):
    """Neither pass holds more than a block of columns for all edges, and nothing is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, src: Tensor, segment: Tensor, offsets: Tensor) -> Tensor:
        out = x.new_empty(len(offsets) - 1, x.shape[1])
        for block in _column_blocks(x, src):
            gathered = x[:, block].index_select(0, src)
            out[:, block] = _reduce(gathered, "max", offsets)
        out.masked_fill_((offsets.diff() == 0).unsqueeze(1), 0.0)
        ctx.save_for_backward(x, out, src, segment, offsets)
        return out

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        x, out, src, segment, offsets = ctx.saved_tensors
        grad_x = torch.zeros_like(x)
        for block in _column_blocks(x, src):
            gathered = x[:, block].index_select(0, src)
            attains = (gathered == out[:, block].index_select(0, segment)).to(x.dtype)
            share = grads[0][:, block] / _reduce(attains, "sum", offsets)
            share = attains.mul_(share.index_select(0, segment))
            grad_x[:, block] = x.new_zeros(len(x), share.shape[1]).index_add_(0, src, share)
        return grad_x, None, None, None


def _column_blocks(x: Tensor, src: Tensor) -> Iterator[slice]:
    step = max(1, _CELLS // max(len(src), 1))
    return (slice(start, start + step) for start in range(0, x.shape[1], step))


def _reduce(x: Tensor, how: str, offsets: Tensor) -> Tensor:
    return torch.segment_reduce(x, how, offsets=offsets, axis=0, unsafe=True)
