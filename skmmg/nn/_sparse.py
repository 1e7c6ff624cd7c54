"""Differentiable products over edges that never build a tensor of (edges x channels).

Two products are each other's derivative, so both can be differentiated any number of times:

- `edge_dot`: the score of an edge, a dot product of its two ends (sampled dense-dense product);
- `edge_sum`: the sum of weighted source rows at every destination (sparse-dense product).

Both work on a stack of copies of the graph's edges, one for every head (and modality).
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from skmmg.nn._dropout import dropout as drop
from skmmg.nn._edges import EdgeStructure, Segments
from skmmg.nn._precision import in_float32

with warnings.catch_warnings():
    # torch says once per process that its CSR tensors are in beta.
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor([0, 1], [0], [1.0], (1, 1), check_invariants=False)

# Edges (times copies) that one sparse product takes: its scalars then stay in the cache.
_BLOCK = 300_000


@in_float32
def edge_dot(query: Tensor, table: Tensor, edges: EdgeStructure) -> Tensor:
    """Dot product of an edge's destination and source row: (B, N, c), (B, rows, c) -> (B, E).

    N is the number of nodes that edges end in, `edges.num_out`.
    """
    return _EdgeDot.apply(query, table, edges)


@in_float32
def edge_sum(
    weight: Tensor, table: Tensor, edges: EdgeStructure, transpose: bool = False
) -> Tensor:
    """Weighted sum of source rows at their destinations: (B, E), (B, rows, c) -> (B, N, c).

    With ``transpose``, of destinations at their source rows: (B, E), (B, N, c) -> (B, rows, c).
    """
    return _EdgeSum.apply(weight, table, edges, transpose)


@in_float32
def segment_softmax(x: Tensor, segments: Segments, bounded: bool = False) -> Tensor:
    """Softmax within segments, along the last axis of a contiguous flat or stacked tensor.

    `bounded` values, which cannot overflow `exp`, are not shifted by their largest.
    """
    return _SegmentSoftmax.apply(x, segments, bounded)


@in_float32
def segment_sum(x: Tensor, segments: Segments) -> Tensor:
    """Sum of a flat tensor within segments: (E,) -> (n_segments,)."""
    return _SegmentSum.apply(x, segments)


class SparseMatrix:
    """A constant sparse matrix with its transpose, for products with a dense parameter.

    Parameters
    ----------
    matrix : Tensor of shape (n, p), layout `torch.sparse_csr`
        Constant: it gets no gradient.

    Examples
    --------
    >>> import torch
    >>> from skmmg.nn import SparseMatrix
    >>> x = SparseMatrix(torch.tensor([[0.0, 2.0], [1.0, 0.0]]).to_sparse_csr())
    >>> x @ torch.ones(2, 1)
    tensor([[2.],
            [1.]])
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        crow, col = matrix.crow_indices(), matrix.col_indices()
        n_rows, n_cols = matrix.shape
        row = torch.repeat_interleave(torch.arange(n_rows, device=col.device), crow.diff().long())
        self._order = torch.argsort(col, stable=True)
        counts = torch.bincount(col, minlength=n_cols)
        crow_t = torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(crow.dtype)
        self.transposed = _csr(
            crow_t, row[self._order].to(col.dtype), matrix.values()[self._order], (n_cols, n_rows)
        )

    @property
    def shape(self) -> torch.Size:
        """Number of rows and columns."""
        return self.matrix.shape

    def __matmul__(self, dense: Tensor) -> Tensor:
        return _sparse_matmul(dense, self.matrix, self.transposed)

    def take(self, rows: Tensor) -> SparseMatrix:
        """The matrix of these rows."""
        crow, col, values = (
            f() for f in (self.matrix.crow_indices, self.matrix.col_indices, self.matrix.values)
        )
        counts = crow.diff()[rows]
        new_crow = torch.cat([crow.new_zeros(1), counts.cumsum(0).to(crow.dtype)])
        shift = (crow[:-1][rows] - new_crow[:-1]).long()
        stored = torch.arange(int(new_crow[-1]), device=col.device)
        stored += shift.repeat_interleave(counts.long())
        shape = (len(rows), self.shape[1])
        return SparseMatrix(_csr(new_crow, col[stored], values[stored], shape))

    def dropout(self, p: float) -> SparseMatrix:
        """A copy with each stored value zeroed with probability `p`, the others scaled up."""
        values = drop(self.matrix.values(), p, training=True)
        out = copy.copy(self)
        out.matrix = _with_values(self.matrix, values)
        out.transposed = _with_values(self.transposed, values[self._order])
        return out


def _csr(crow: Tensor, col: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    return torch.sparse_csr_tensor(crow, col, values, shape, check_invariants=False)


def _with_values(matrix: Tensor, values: Tensor) -> Tensor:
    n_rows, n_cols = matrix.shape
    return _csr(matrix.crow_indices(), matrix.col_indices(), values, (n_rows, n_cols))


def _copies_per_block(n_copies: int, n_edges: int) -> int:
    n_blocks = max(1, -(-n_copies * n_edges // _BLOCK))
    return -(-n_copies // n_blocks)


class _EdgeDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, table: Tensor, edges: EdgeStructure) -> Tensor:
        ctx.save_for_backward(query, table)
        ctx.edges = edges
        n_copies, _, width = query.shape
        # zeros, not empty: beta=0 lets NaN of uninitialised memory through
        out = query.new_zeros(n_copies, edges.num_edges)
        if not edges.num_edges:
            return out  # cuSPARSE is not asked about a matrix without entries
        step = _copies_per_block(n_copies, edges.num_edges)
        for start in range(0, n_copies, step):
            part = slice(start, start + step)
            blocks = edges.blocks(len(out[part]))
            n_rows, n_cols = blocks.shape
            pattern = torch.sparse_csr_tensor(
                blocks.crow_padded,
                blocks.col,
                out[part].view(-1),
                (n_rows + blocks.padding, n_cols),
                check_invariants=False,
            )
            left = query[part].reshape(-1, width)
            if blocks.padding:
                left = F.pad(left, (0, 0, 0, blocks.padding))
            right = table[part].reshape(-1, width).t()
            torch.sparse.sampled_addmm(pattern, left, right, beta=0.0, out=pattern)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None]:
        query, table = ctx.saved_tensors
        (grad,) = grads
        return (
            edge_sum(grad, table, ctx.edges),
            edge_sum(grad, query, ctx.edges, transpose=True),
            None,
        )


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, weight: Tensor, table: Tensor, edges: EdgeStructure, transpose: bool
    ) -> Tensor:
        ctx.save_for_backward(weight, table)
        ctx.edges, ctx.transpose = edges, transpose
        n_copies, _, width = table.shape
        n_out = edges.num_rows if transpose else edges.num_out
        out = table.new_zeros(n_copies, n_out, width)
        step = _copies_per_block(n_copies, edges.num_edges)
        for start in range(0, n_copies, step):
            part = slice(start, start + step)
            matrix = _block_matrix(edges, weight[part], transpose)
            rows = out[part].view(-1, width)
            torch.addmm(rows, matrix, table[part].reshape(-1, width), beta=0.0, out=rows)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, table = ctx.saved_tensors
        (grad,) = grads
        query, rows = (table, grad) if ctx.transpose else (grad, table)
        return (
            edge_dot(query, rows, ctx.edges),
            edge_sum(weight, grad, ctx.edges, not ctx.transpose),
            None,
            None,
        )


def _block_matrix(edges: EdgeStructure, weight: Tensor, transpose: bool) -> Tensor:
    blocks = edges.blocks(len(weight))
    values = weight.reshape(-1)
    if not transpose:
        return torch.sparse_csr_tensor(
            blocks.crow, blocks.col, values, blocks.shape, check_invariants=False
        )
    return torch.sparse_csr_tensor(
        blocks.crow_t,
        blocks.col_t,
        values[blocks.permutation],
        blocks.shape[::-1],
        check_invariants=False,
    )


def _reduce(x: Tensor, segments: Segments, how: str) -> Tensor:
    return torch.segment_reduce(x, how, offsets=segments.offsets, unsafe=True)


class _SegmentSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: Segments) -> Tensor:
        ctx.segments = segments
        return _reduce(x, segments, "sum")

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0][ctx.segments.index], None


class _SegmentSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: Segments, bounded: bool) -> Tensor:
        ctx.segments = segments
        flat = x.reshape(-1)
        if bounded:
            powers = flat.exp()
        else:
            powers = (flat - _reduce(flat, segments, "max")[segments.index]).exp_()
        total = _reduce(powers, segments, "sum")
        out = powers.div_(total[segments.index]).view(x.shape)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (out,), segments = ctx.saved_tensors, ctx.segments
        product = (out * grads[0]).reshape(-1)
        total = segment_sum(product, segments)[segments.index]
        return (product - out.reshape(-1) * total).view(out.shape), None, None


@in_float32
def _sparse_matmul(dense: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
    return _SparseMatmul.apply(dense, matrix, transposed)


class _SparseMatmul(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, matrix: Tensor, transposed: Tensor) -> Tensor:
        ctx.matrix, ctx.transposed = matrix, transposed
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        grad = grads[0].contiguous()
        return _SparseMatmul.apply(grad, ctx.transposed, ctx.matrix), None, None
