"""Relations of a heterogeneous graph as one homogeneous graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch_geometric.nn import GCNConv

from skmmg.nn import GraphTensors
from skmmg.nn._homogeneous import HomogeneousGraph, merge_relations, normalized_adjacency

DTYPE = torch.float64
SIZES = {"a": 4, "b": 3}
STARTS = {"a": 0, "b": 4}
WEIGHTED, PLAIN, ACROSS = ("a", "w", "a"), ("a", "p", "a"), ("b", "x", "a")
EDGES = {
    WEIGHTED: [[0, 1, 1, 3, 2], [1, 1, 2, 0, 0]],
    PLAIN: [[0, 0, 2, 2], [1, 3, 0, 0]],
    ACROSS: [[0, 2, 2], [3, 1, 1]],
}
WEIGHTS = {WEIGHTED: [0.5, 3.0, 2.0, 0.0, 4.0]}


def make_graph(**changes: Any) -> GraphTensors:
    return GraphTensors(
        x={},
        num_nodes=SIZES,
        edge_index={e: torch.tensor(index) for e, index in EDGES.items()},
        edge_weight={e: torch.tensor(w) for e, w in (WEIGHTS | changes).items()},
    )


def dense_relations(how: str) -> dict[Any, np.ndarray]:
    """Adjacency matrix of every relation, in rows of destinations; parallel edges by `how`."""
    out = {}
    for (src, rel, dst), index in EDGES.items():
        matrix = np.zeros((7, 7))
        weights = WEIGHTS.get((src, rel, dst), np.ones(len(index[0])))
        for j, i, w in zip(*index, weights, strict=True):
            cell = STARTS[dst] + i, STARTS[src] + j
            matrix[cell] = max(matrix[cell], w) if how == "max" else matrix[cell] + w
        out[src, rel, dst] = matrix
    return out


def to_dense(merged: HomogeneousGraph) -> np.ndarray:
    matrix = np.zeros((merged.num_nodes, merged.num_nodes))
    matrix[merged.dst, merged.src] = merged.weight
    return matrix


def test_the_union_has_every_edge_once_with_its_largest_weight() -> None:
    merged = merge_relations(make_graph(), list(EDGES), "union", DTYPE)

    expected = np.maximum.reduce(list(dense_relations("max").values()))
    assert_allclose(to_dense(merged), expected)
    assert len(merged.weight) == np.count_nonzero(expected)
    key = merged.dst * 7 + merged.src
    assert bool((key.diff() > 0).all())


def test_the_mean_is_that_of_the_relations_between_two_types() -> None:
    merged = merge_relations(make_graph(), list(EDGES), "mean", DTYPE)

    relations = dense_relations("sum")
    expected = (relations[WEIGHTED] + relations[PLAIN]) / 2 + relations[ACROSS]
    assert_allclose(to_dense(merged), expected)


@pytest.mark.parametrize("merge", ["union", "mean"])
def test_the_order_of_relations_and_edges_does_not_matter(merge: str) -> None:
    graph = make_graph()
    flipped = GraphTensors(
        x={},
        num_nodes=SIZES,
        edge_index={e: index.flip(1) for e, index in graph.edge_index.items()},
        edge_weight={e: w.flip(0) for e, w in graph.edge_weight.items()},
    )

    first = merge_relations(graph, list(EDGES), merge, DTYPE)
    second = merge_relations(flipped, list(EDGES)[::-1], merge, DTYPE)

    assert_allclose(to_dense(first), to_dense(second))


def test_a_graph_is_merged_once() -> None:
    graph = make_graph()

    first = merge_relations(graph, list(EDGES), "union", DTYPE)

    assert merge_relations(graph.shuffled(), list(EDGES), "union", DTYPE) is first


def test_relations_without_edges_give_a_graph_without_edges() -> None:
    graph = GraphTensors(x={}, num_nodes=SIZES, edge_index={})

    merged = merge_relations(graph, [WEIGHTED], "union", DTYPE)
    matrix = normalized_adjacency(merged.dst, merged.src, merged.weight, 7)

    assert_allclose(matrix @ torch.eye(7, dtype=DTYPE), np.eye(7))


def test_a_negative_weight_is_an_error() -> None:
    graph = make_graph()
    graph.edge_weight[WEIGHTED][0] = -2.0

    with pytest.raises(ValueError, match="have negative weights, and this model takes none"):
        merge_relations(graph, list(EDGES), "union", DTYPE)


@pytest.mark.parametrize("merge", ["union", "mean"])
@pytest.mark.parametrize("self_loop", [0.0, 1.0, 2.5])
def test_the_normalised_adjacency_is_the_formula(merge: str, self_loop: float) -> None:
    merged = merge_relations(make_graph(), list(EDGES), merge, DTYPE)

    matrix = normalized_adjacency(
        merged.dst, merged.src, merged.weight, merged.num_nodes, self_loop=self_loop
    )

    looped = to_dense(merged) + self_loop * np.eye(7)
    degree = looped.sum(1)
    root = np.divide(1, np.sqrt(degree), out=np.zeros(7), where=degree > 0)
    assert_allclose(matrix @ torch.eye(7, dtype=DTYPE), root[:, None] * looped * root, atol=1e-15)
    assert_allclose(matrix.transposed.to_dense(), matrix.matrix.to_dense().T)


def test_the_normalised_adjacency_is_that_of_pyg() -> None:
    merged = merge_relations(make_graph(), list(EDGES), "union", DTYPE)
    apart = merged.dst != merged.src
    dst, src, weight = merged.dst[apart], merged.src[apart], merged.weight[apart]
    x = torch.randn(7, 5, dtype=DTYPE)
    conv = GCNConv(5, 3).double()

    ours = normalized_adjacency(dst, src, weight, 7) @ (x @ conv.lin.weight.t()) + conv.bias

    assert_allclose(ours.detach(), conv(x, torch.stack([src, dst]), weight).detach(), atol=1e-12)
