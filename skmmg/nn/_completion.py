"""Fill the states of modalities that nodes lack with those that they or their neighbours have."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from skmmg.nn._edges import EdgeStructure
from skmmg.nn._precision import in_float32
from skmmg.nn._sparse import SparseMatrix


@dataclass(frozen=True)
class Step:
    """Rows of the stacked states that become weighted sums of others."""

    rows: Tensor  # (n_rows,) to be replaced
    columns: Tensor  # (n_columns,) that they are made of; none of them is replaced in this step
    matrix: SparseMatrix  # (n_rows, n_columns)


@in_float32
def complete(h: Tensor, steps: Iterable[Step]) -> Tensor:
    """The states (n, channels) after these steps, one after the other."""
    return _Complete.apply(h, tuple(steps), False)


def copy_step(absent: Tensor, dtype: torch.dtype) -> Step:
    """A node gets the state of its first modality for those that it lacks, or zeros.

    `absent` is (n_modalities, n_nodes); the states are stacked modality after modality.
    """
    n_nodes = absent.shape[1]
    modality, node = absent.nonzero(as_tuple=True)
    first = absent.to(torch.uint8).argmin(0)[node]
    bare = absent.all(0)[node]
    rows, sources = modality * n_nodes + node, (first * n_nodes + node)[~bare]
    values = torch.ones(len(sources), dtype=dtype, device=absent.device)
    return _make_step(rows, (~bare).nonzero().squeeze(1), sources, values)


def mean_step(
    edges: EdgeStructure, receivers: Tensor, givers: Tensor, dtype: torch.dtype
) -> tuple[Step, Tensor]:
    """A receiver gets the mean state of its in-neighbours that are givers, in every modality.

    Both are masks (n_modalities, n_nodes). The second result is the mask of those that got one;
    the others stay as they are.
    """
    rows, positions, sources = [], [], []
    got, start = torch.zeros_like(receivers), 0
    for modality, (asking, giving) in enumerate(zip(receivers, givers, strict=True)):
        used = asking[edges.dst] & giving[edges.src]
        shift = modality * receivers.shape[1]
        row, position = torch.unique_consecutive(edges.dst[used], return_inverse=True)
        got[modality, row] = True
        rows.append(row + shift)
        positions.append(position + start)
        sources.append(edges.src[used] + shift)
        start += len(row)
    position = torch.cat(positions)
    count = torch.bincount(position, minlength=start)
    values = count[position].to(dtype).reciprocal()
    return _make_step(torch.cat(rows), position, torch.cat(sources), values), got


def _make_step(rows: Tensor, position: Tensor, sources: Tensor, values: Tensor) -> Step:
    """`position` says, in ascending order, to which of the rows a source with its value belongs."""
    columns, column = torch.unique(sources, return_inverse=True)
    count = torch.bincount(position, minlength=len(rows))
    crow = torch.cat([count.new_zeros(1), count.cumsum(0)])
    shape = (len(rows), len(columns))
    matrix = torch.sparse_csr_tensor(crow, column, values, shape, check_invariants=False)
    return Step(rows, columns, SparseMatrix(matrix))


class _Complete(torch.autograd.Function):
    """A linear map, and its transpose; so it can be differentiated any number of times."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, steps: tuple[Step, ...], transpose: bool) -> Tensor:
        ctx.steps, ctx.transpose = steps, transpose
        out = h.clone()
        for step in reversed(steps) if transpose else steps:
            if not len(step.rows):
                continue
            if transpose:
                moved = step.matrix.transposed @ out.index_select(0, step.rows)
                out.index_fill_(0, step.rows, 0.0)
                out.index_add_(0, step.columns, moved)
            else:
                new = step.matrix.matrix @ out.index_select(0, step.columns)
                out.index_copy_(0, step.rows, new)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        return _Complete.apply(grads[0], ctx.steps, not ctx.transpose), None, None
