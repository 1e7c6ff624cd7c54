"""The edge stage of HGNN-IMA by the compiled kernel, `_kernel.cpp`: nothing is kept per edge."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from skmmg.nn import _compile
from skmmg.nn._edge_stage import RelationMatrices, Switches, sparse_pass
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._memory import new_empty
from skmmg.nn._precision import in_float32

_SOURCE = Path(__file__).parent / "_kernel.cpp"
_SCALARS = {torch.float32: "float", torch.float64: "double"}
_CROSS_MODAL = {"adaptive": 0, "node": 1, "mean": 2, "none": 3}
_NORMS = {"softmax": 0, "renormalize": 1, "outer": 2}
_MAX_HEADS = 16
# Threads of the backward pass: each has a copy of the gradient of all keys and values.
_MAX_BACKWARD_THREADS = 4
_EDGES_PER_THREAD = 4096

_ARRAYS = (
    *("query", "pair", "w_node", "w_modal", "w_msg", "w_node_t", "w_modal_t", "w_msg_t"),
    *("src", "run_ptr", "run_relation", "node_ptr", "lacking", "cuts", "paid", "out"),
    *("grad_out", "grad_paid", "grad_query", "grad_pair"),
    *("grad_w_node", "grad_w_modal", "grad_w_msg"),
)
_SIZES = (
    *("query_stride", "n_edges", "longest"),
    *("pair_size", "matrices_size", "modal_size"),
)
_NUMBERS = (
    *("n_threads", "heads", "by_relation", "cross_modal", "norm", "align", "add"),
    "modal_per_modality",
)
# `Task` of the kernel
_Task = _compile.structure(
    "Task",
    {
        **dict.fromkeys(_ARRAYS, ctypes.c_void_p),
        **dict.fromkeys(_SIZES, ctypes.c_int64),
        "align_scale": ctypes.c_double,
        **dict.fromkeys(_NUMBERS, ctypes.c_int32),
    },
)


def can_fuse(h: Tensor, edges: EdgeStructure, switches: Switches, heads: int) -> bool:
    """Whether the kernel knows this layer."""
    return (
        h.device.type == "cpu"
        and h.dtype in _SCALARS
        and switches.cross_modal in _CROSS_MODAL
        and heads <= _MAX_HEADS
        and max(edges.num_edges, edges.num_nodes) < torch.iinfo(torch.int32).max
    )


def lanes(heads: int) -> int:
    """Heads in a vector: the next power of two; the lanes that are left over hold zeros."""
    return 1 << (heads - 1).bit_length()


def kernel_for(
    n_modalities: int, head_channels: int, heads: int, dtype: torch.dtype
) -> ctypes.CDLL:
    """The kernel for these sizes."""
    return _compile.load(
        _SOURCE, M=n_modalities, DK=head_channels, H=lanes(heads), T=_SCALARS[dtype]
    )


@in_float32
def fused_pass(
    query: Tensor,
    pair: Tensor,
    matrices: RelationMatrices,
    edges: EdgeStructure,
    switches: Switches,
    lacking: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`sparse_pass`, with the heads as the last axis of everything, padded to `lanes`.

    Queries are (M, edges.num_out, dk, lanes), the messages as well. Pairs of key and value are
    (edges.num_nodes, M, 2, dk, lanes): what an edge reads at its source is in one place.
    """
    if not switches.has_modal_attention:
        lacking = None
    heads, width = matrices.node.shape[1], query.shape[-1]
    node, message = (_to_lanes(w, 1, width) for w in (matrices.node, matrices.message))
    modal = None if matrices.modal is None else _to_lanes(matrices.modal, 2, width)
    out, paid = _FusedPass.apply(query, pair, node, modal, message, edges, switches, lacking, heads)
    return out, None if lacking is None else paid


def _to_lanes(weight: Tensor, axis: int, width: int) -> Tensor:
    """Heads to the end, padded to `width`."""
    moved = weight.movedim(axis, -1)
    return F.pad(moved, (0, width - moved.shape[-1])).contiguous()


def _from_lanes(x: Tensor, heads: int, axis: int) -> Tensor:
    return x[..., :heads].movedim(-1, axis)


class _FusedPass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        pair: Tensor,
        w_node: Tensor,
        w_modal: Tensor | None,
        w_msg: Tensor,
        edges: EdgeStructure,
        switches: Switches,
        lacking: Tensor | None,
        heads: int,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(query, pair, w_node, w_modal, w_msg)
        ctx.rest = (edges, switches, lacking, heads)
        n_threads = _count_threads(edges)
        out, paid = new_empty(query, *query.shape), torch.empty(n_threads, dtype=torch.float64)
        task = _Call(ctx, n_threads, out=out, paid=paid)
        task.kernel.forward(ctypes.byref(task.task))
        return out, paid.sum().to(query.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _differentiable_backward(ctx, *grads)
        query, pair, w_node, w_modal, w_msg = ctx.saved_tensors
        n_threads = min(_count_threads(ctx.rest[0]), _MAX_BACKWARD_THREADS)
        arrays = {"grad_pair": pair, "grad_w_node": w_node, "grad_w_msg": w_msg}
        if w_modal is not None:
            arrays["grad_w_modal"] = w_modal
        found = {n: new_empty(x, n_threads, *x.shape).zero_() for n, x in arrays.items()}
        found["grad_query"] = new_empty(query, *query.shape).zero_()
        task = _Call(ctx, n_threads, grad_out=grads[0].contiguous(), grad_paid=grads[1], **found)
        task.kernel.backward(ctypes.byref(task.task))
        totals = {n: x[0] if n_threads == 1 else x.sum(0) for n, x in found.items() if n in arrays}
        return (
            found["grad_query"],
            totals["grad_pair"],
            totals["grad_w_node"],
            totals.get("grad_w_modal"),
            totals["grad_w_msg"],
            *(None,) * 4,
        )


def _count_threads(edges: EdgeStructure) -> int:
    """As many as torch has, where there is work for them."""
    return max(1, min(torch.get_num_threads(), edges.num_edges // _EDGES_PER_THREAD))


class _Call:
    """A call of the kernel; it keeps the tensors whose memory the kernel is pointed to."""

    def __init__(self, ctx: Any, n_threads: int, **arrays: Tensor) -> None:
        saved = ctx.saved_tensors if not arrays.keys() & {"out"} else ctx.to_save
        x: list[Any] = [None if y is None else y.detach() for y in saved]
        query, pair, w_node, w_modal, w_msg = x
        edges, switches, lacking, heads = ctx.rest
        runs = edges.runs()
        self.kernel = kernel_for(query.shape[0], query.shape[2], heads, query.dtype)
        self.tensors = {
            "query": query,
            "pair": pair,
            "w_node": w_node,
            "w_modal": w_modal,
            "w_msg": w_msg,
            "w_node_t": w_node.transpose(1, 2),
            "w_modal_t": None if w_modal is None else w_modal.transpose(2, 3),
            "w_msg_t": w_msg.transpose(1, 2),
            "src": runs.src,
            "run_ptr": runs.ptr,
            "run_relation": runs.relation,
            "node_ptr": runs.node_ptr,
            "cuts": runs.cuts(n_threads),
            "lacking": lacking,
            **arrays,
        }
        self.tensors = {n: x.contiguous() for n, x in self.tensors.items() if x is not None}
        pairs_of_modalities = query.shape[0] * (query.shape[0] - 1) // 2
        mean = switches.align_scale == "mean" and pairs_of_modalities
        self.task = _Task(
            **{name: x.data_ptr() for name, x in self.tensors.items()},
            query_stride=query[0].numel(),
            n_edges=edges.num_edges,
            longest=runs.longest,
            pair_size=pair.numel(),
            matrices_size=w_node.numel(),
            modal_size=0 if w_modal is None else w_modal.numel(),
            align_scale=1 / pairs_of_modalities if mean else 1.0,
            n_threads=n_threads,
            heads=heads,
            by_relation=switches.attention_scope == "relation",
            cross_modal=_CROSS_MODAL[switches.cross_modal],
            norm=_NORMS[switches.attention_norm],
            align=switches.align,
            add=switches.combine == "sum",
            modal_per_modality=w_modal is not None and w_modal.shape[1] > 1,
        )


def _differentiable_backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    """The same gradients by sparse products, which can be differentiated again."""
    edges, switches, lacking, heads = ctx.rest
    saved = ctx.saved_tensors
    query, pair, w_node, w_modal, w_msg = saved
    matrices = RelationMatrices(
        _from_lanes(w_node, heads, 1),
        None if w_modal is None else _from_lanes(w_modal, heads, 2),
        _from_lanes(w_msg, heads, 1),
    )
    by_modality = pair.transpose(0, 1)
    key, value = (_from_lanes(by_modality[:, :, i], heads, 0).contiguous() for i in (0, 1))
    first = _from_lanes(query, heads, 0).contiguous()
    u, paid = sparse_pass(first, key, value, matrices, edges, switches, lacking)
    outputs = (F.pad(u.transpose(2, 3), (0, query.shape[-1] - heads)), paid)
    given = [(y, grad) for y, grad in zip(outputs, grads, strict=True) if y is not None]
    wanted = [x for x in saved if x is not None and x.requires_grad]
    found = iter(
        torch.autograd.grad(
            [y for y, _ in given],
            wanted,
            [grad for _, grad in given],
            create_graph=True,
            materialize_grads=True,
        )
    )
    return (
        *(next(found) if x is not None and x.requires_grad else None for x in saved),
        *(None,) * 4,
    )
