"""What most models compute edges with gives on a device what it gives on the CPU, gradients too.

The pretended device shows where tensors are; with `-m gpu` the numbers are those of a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor

from skmmg.nn import _sparse
from skmmg.nn._completion import complete, copy_step, mean_step
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._relation_pairs import RelationPairs
from skmmg.nn._sparse import SparseMatrix, edge_dot, edge_sum, segment_softmax, segment_sum

OnDevice = Callable[[], AbstractContextManager[Any]]
Results = Iterator[tuple[str, Tensor]]
TYPES = [("n", "a", "n"), ("n", "b", "n"), ("n", "c", "n")]
# nodes, and edges of the relations, whose ends are all drawn from the first two thirds of the nodes
STRUCTURES = {
    "parallel edges": (60, (400, 300, 0)),
    "more edges than cells": (3, (100, 60, 1)),
    "few edges": (500, (40, 0, 3)),
    "no edges": (12, (0, 0, 0)),
}
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
structures = pytest.mark.parametrize("name", STRUCTURES)


class Draw:
    """The same random numbers on any device."""

    def __init__(self, device: str, dtype: torch.dtype) -> None:
        self.device, self.dtype = device, dtype
        self._generator = torch.Generator().manual_seed(0)

    def values(self, *shape: int) -> Tensor:
        x = torch.randn(shape, generator=self._generator, dtype=torch.float64)
        return x.to(self.device, self.dtype).requires_grad_()

    def mask(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator).to(self.device) < 0.4

    def structure(self, name: str) -> EdgeStructure:
        n_nodes, sizes = STRUCTURES[name]
        ends = [
            torch.randint(0, 2 * n_nodes // 3, (2, n), generator=self._generator) for n in sizes
        ]
        index = {t: part.to(self.device) for t, part in zip(TYPES, ends, strict=True)}
        return EdgeStructure(index, {"n": n_nodes}, TYPES)


def with_gradients(name: str, out: Tensor, *inputs: Tensor) -> Results:
    """The output of a function, its gradients, and the gradients of these."""
    yield name, out
    first = torch.autograd.grad((out * out).sum(), inputs, create_graph=True)
    second = torch.autograd.grad(sum((g * g).sum() for g in first), inputs)
    for i, (g, gg) in enumerate(zip(first, second, strict=True)):
        yield f"{name}, gradient {i}", g
        yield f"{name}, second gradient {i}", gg


def compare(compute: Callable[[Draw], Results], dtype: torch.dtype, on_device: OnDevice) -> None:
    """Compute on both; far means far for the largest of the numbers."""
    expected = dict(compute(Draw("cpu", dtype)))
    with on_device():
        results = dict(compute(Draw("cuda", dtype)))
        assert {x.device.type for x in results.values()} == {"cuda"}
        found = {name: x.cpu() for name, x in results.items()}
    assert set(found) == set(expected)
    tol = 2e-5 if dtype == torch.float32 else 1e-12
    for name, values in expected.items():
        largest = float(values.detach().abs().max()) if values.numel() else 0.0
        torch.testing.assert_close(found[name], values, rtol=0, atol=tol * largest, msg=name)


@structures
@dtypes
@pytest.mark.parametrize("part", [False, True], ids=["whole graph", "some nodes"])
@pytest.mark.parametrize("block", [300_000, 1000], ids=["one product", "products of some copies"])
def test_products_over_edges(
    name: str,
    dtype: torch.dtype,
    part: bool,
    block: int,
    on_device: OnDevice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_sparse, "_BLOCK", block)

    def compute(draw: Draw) -> Results:
        edges = draw.structure(name)
        if part:
            wanted = torch.arange(edges.num_nodes, device=draw.device) % 2 == 0
            edges, _ = edges.into(wanted)
        query, rows = draw.values(4, edges.num_out, 5), draw.values(4, edges.num_rows, 5)
        weight = draw.values(4, edges.num_edges)
        yield from with_gradients("dot", edge_dot(query, rows, edges), query, rows)
        yield from with_gradients("sum", edge_sum(weight, rows, edges), weight, rows)
        back = edge_sum(weight, query, edges, transpose=True)
        yield from with_gradients("transposed sum", back, weight, query)

    compare(compute, dtype, on_device)


@structures
@dtypes
@pytest.mark.parametrize("scope", ["node", "relation"])
def test_softmax_and_sums_of_segments(
    name: str, dtype: torch.dtype, scope: str, on_device: OnDevice
) -> None:
    def compute(draw: Draw) -> Results:
        edges = draw.structure(name)
        x, segments = draw.values(4, edges.num_edges), edges.segments(scope, 4)
        for bounded in (False, True):
            out = segment_softmax(x, segments, bounded)
            yield from with_gradients(f"softmax {bounded}", out, x)
        yield from with_gradients("sum", segment_sum(x.reshape(-1), segments), x)
        runs = edges.runs()
        yield from (("runs", runs.ptr.to(dtype)), ("nodes of runs", runs.node_ptr.to(dtype)))

    compare(compute, dtype, on_device)


@structures
@dtypes
def test_pairs_of_nodes_and_relations(name: str, dtype: torch.dtype, on_device: OnDevice) -> None:
    def compute(draw: Draw) -> Results:
        pairs = RelationPairs(draw.structure(name), dtype)
        x, score = draw.values(STRUCTURES[name][0], 3), draw.values(len(pairs.node), 3)
        yield from with_gradients("sum", pairs.sum(x), x)
        yield from with_gradients("softmax", pairs.softmax(score), score)
        most = pairs.max(x)
        yield from (("max", most), ("of max", torch.autograd.grad((most * most).sum(), x)[0]))

    compare(compute, dtype, on_device)


@structures
@dtypes
def test_completion_of_missing_modalities(
    name: str, dtype: torch.dtype, on_device: OnDevice
) -> None:
    def compute(draw: Draw) -> Results:
        edges = draw.structure(name)
        absent = draw.mask(3, edges.num_nodes)
        mean, got = mean_step(edges, absent, ~absent, dtype)
        h = draw.values(3 * edges.num_nodes, 5)
        out = complete(h, [mean, copy_step(absent & ~got, dtype)])
        yield from with_gradients("completed", out, h)

    compare(compute, dtype, on_device)


@dtypes
@pytest.mark.parametrize("empty", [False, True])
def test_constant_sparse_matrices(empty: bool, dtype: torch.dtype, on_device: OnDevice) -> None:
    def compute(draw: Draw) -> Results:
        dense = draw.values(40, 30).detach() * draw.mask(40, 30) * (not empty)
        matrix = SparseMatrix(dense.to_sparse_csr())
        w = draw.values(30, 7)
        yield from with_gradients("product", matrix @ w, w)
        rows = torch.tensor([3, 3, 39, 0], device=draw.device)
        yield from with_gradients("rows", matrix.take(rows) @ w, w)

    compare(compute, dtype, on_device)
