"""The edge stage of HGNN-IMA by Triton kernels, for a GPU: nothing is kept per edge.

Relation matrices are applied to the sources by dense products, as for the sparse products; the
kernels take it from there (_triton_kernels.py).

They were run in Triton's interpreter and compiled for GPUs, but **no GPU was at hand to run them
on**. So every kind of layer is compared with the sparse products before it is used for the first
time, see `check`. Two runs may differ in the last bits, because gradients of sources are summed in
no order. A hub is computed by one program per head, tile after tile.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skmmg.nn import _triton_kernels as kernels
from skmmg.nn._edge_stage import RelationMatrices, Switches, Tables, sparse_pass, table_pass
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._precision import in_float32


@in_float32
def triton_pass(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    matrices: RelationMatrices,
    edges: EdgeStructure,
    switches: Switches,
    lacking: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:
    """`sparse_pass`, by the kernels."""
    if not switches.has_modal_attention:
        lacking = None
    tables = Tables.of(key, value, matrices, edges)
    parts = (query, tables.node, tables.modal, tables.message)
    out, paid = _TritonPass.apply(*parts, edges, switches, lacking)  # (h, M, N, dk)
    return out.permute(1, 2, 0, 3), None if lacking is None else paid


class _TritonPass(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        node: Tensor,
        modal: Tensor | None,
        value: Tensor,
        edges: EdgeStructure,
        switches: Switches,
        lacking: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        plan = kernels.Plan.of(query, switches)
        heads, out = query.shape[0], query.new_empty(query.shape)
        n_segments = len(_segments(edges, switches)[0]) - 1
        stats = query.new_empty(heads, n_segments, 9, plan.MP)
        paid = query.new_empty(heads, edges.num_out)
        ctx.rest = (edges, switches, lacking, plan)
        ctx.save_for_backward(query, node, modal, value, stats)
        _launch(kernels.forward, ctx, ctx.to_save, out, paid, stats)
        return out, paid.sum() / heads

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():
            return _differentiable_backward(ctx, *grads)
        query, node, modal, value, stats = ctx.saved_tensors
        given = (stats, grads[0].contiguous(), grads[1] / len(query))
        parts = (query, node, modal, value)
        found = [None if x is None else x.new_zeros(x.shape) for x in parts]
        _launch(kernels.backward, ctx, ctx.saved_tensors, *given, *found)
        return (*found, None, None, None)


def _launch(kernel: Any, ctx: Any, saved: Any, *arrays: Tensor | None) -> None:
    """Run it; what it writes to is contiguous already, so that no copy of it is written to."""
    query, node, modal, value = saved[:4]
    edges, switches, lacking, plan = ctx.rest
    offsets, first = _segments(edges, switches)
    # what there is not is never looked at
    marks = query.new_empty(0, 0, dtype=torch.uint8)
    if lacking is not None:
        marks = lacking.view(torch.uint8)
    inputs = [query, node, modal, value, edges.row, offsets, first, marks, *arrays]
    sizes = (edges.num_out, edges.num_rows, marks.shape[1], len(offsets) - 1)
    with torch.cuda.device_of(query):
        kernel[edges.num_out, len(query)](
            *(query if x is None else x.detach().contiguous() for x in inputs),
            *sizes,
            S=plan,
            num_warps=plan.num_warps,
        )


def _segments(edges: EdgeStructure, switches: Switches) -> tuple[Tensor, Tensor]:
    """First edge of every softmax, and first softmax of every node."""
    if switches.attention_scope == "relation":
        runs = edges.runs()
        return runs.ptr, runs.node_ptr
    offsets = edges.segments("node").offsets
    return offsets, torch.arange(len(offsets), device=offsets.device)


def _differentiable_backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    """The same gradients by sparse products, which can be differentiated again."""
    edges, switches, lacking, _ = ctx.rest
    query, *tables = saved = ctx.saved_tensors[:4]
    u, paid = table_pass(query, Tables(*tables), edges, switches, lacking)
    outputs = [u.permute(2, 0, 1, 3)] + ([] if paid is None else [paid])
    inputs = [x for x in saved if x is not None]
    found = iter(
        torch.autograd.grad(
            outputs,
            inputs,
            grads[: len(outputs)],
            create_graph=True,
            materialize_grads=True,
        )
    )
    return (*(None if x is None else next(found) for x in saved), None, None, None)


@torch.inference_mode(False)
@torch.enable_grad()
def check(
    device: torch.device, dtype: torch.dtype, n_modalities: int, width: int, switches: Switches
) -> None:
    """Compare a small layer of this kind with the sparse products, wherever it is called.

    Raises
    ------
    RuntimeError
        If numbers or gradients differ.
    """
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=dtype).to(device).requires_grad_()

    index = torch.randint(20, (2, 150), generator=random).to(device)
    types = [("n", "a", "n"), ("n", "b", "n")]
    ends = {types[0]: index[:, :90], types[1]: index[:, 90:]}
    edges = EdgeStructure(ends, {"n": 20}, types)
    query, key, value = inputs = [draw(2, n_modalities, 20, width) for _ in range(3)]
    w_modal = draw(2, 1, 2, width, width) if switches.has_modal_attention else None
    matrices = RelationMatrices(draw(2, 2, width, width), w_modal, draw(2, 2, width, width))
    lacking = torch.rand(n_modalities, 150, generator=random).to(device) < 0.3
    seen = draw(n_modalities, 20, 2, width)
    results = []
    for function in (sparse_pass, triton_pass):
        with torch.autocast(device.type, enabled=False):
            u, paid = function(query, key, value, matrices, edges, switches, lacking)
            loss = (u * seen).sum() + (0 if paid is None else paid)
            wanted = [*inputs, *(w for w in vars(matrices).values() if w is not None)]
            results.append([u.detach(), *torch.autograd.grad(loss, wanted)])
    tolerance = 1e-3 if dtype == torch.float32 else 1e-8
    for expected, found in zip(*results, strict=True):
        if not (found - expected).abs().max() <= tolerance * expected.abs().max():
            raise RuntimeError("it gives other numbers than the sparse products")
