"""Label propagation: the clusters are those of a dense propagation, and there are always two."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from skmmg.nn import GraphTensors
from skmmg.nn._label_propagation import LabelPropagation

SIZES = {"movie": 12, "actor": 7}
STARS, STARRED, NEAR = (
    ("movie", "stars", "actor"),
    ("actor", "rev_stars", "movie"),
    ("movie", "near", "movie"),
)
TYPES = (STARS, STARRED, NEAR)
Labels = dict[str, np.ndarray]


def draw_graph(seed: int, n_edges: int = 16) -> GraphTensors:
    rng = np.random.default_rng(seed)
    index = {
        e: torch.tensor(rng.integers([[SIZES[e[0]]], [SIZES[e[2]]]], size=(2, n_edges)))
        for e in TYPES
    }
    return GraphTensors(x={}, num_nodes=dict(SIZES), edge_index=index)


def dense_mean(graph: GraphTensors, edge_type: tuple[str, str, str]) -> np.ndarray:
    """Row-normalised adjacency (n_dst, n_src), parallel edges counted."""
    A = np.zeros((SIZES[edge_type[2]], SIZES[edge_type[0]]))
    for src, dst in graph.edge_index[edge_type].numpy().T:
        A[dst, src] += 1
    return A / np.maximum(A.sum(1, keepdims=True), 1)


def best(scores: np.ndarray, before: np.ndarray) -> np.ndarray:
    return np.where(scores.any(1), np.round(scores, 9).argmax(1), before)


def split(labels: np.ndarray) -> Labels:
    return {"movie": labels[:12], "actor": labels[12:]}


def dense_plain_round(graph: GraphTensors, labels: Labels, k: int) -> Labels:
    labels = dict(labels)
    for t in SIZES:
        into = [e for e in TYPES if e[2] == t]
        scores = sum(dense_mean(graph, e) @ np.eye(k)[labels[e[0]]] for e in into)
        labels[t] = best(np.asarray(scores), labels[t])
    return labels


def dense_attentive_round(
    graph: GraphTensors, labels: Labels, layers: list[Labels], k: int
) -> Labels:
    Y = {t: np.eye(k)[x] for t, x in labels.items()}
    for c in layers:
        new = {}
        for t in SIZES:
            into = [e for e in TYPES if e[2] == t]
            new[t] = c[t][0][:, None] * Y[t]
            for weight, e in zip(c[t][1:], into, strict=True):
                new[t] += weight[:, None] * (dense_mean(graph, e) @ Y[e[0]])
        Y = new
    return {t: best(Y[t], labels[t]) for t in SIZES}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("attentive", [False, True])
def test_a_round_is_that_of_dense_matrices(seed: int, attentive: bool) -> None:
    graph, rng = draw_graph(seed), np.random.default_rng(seed)
    labels = rng.integers(6, size=19)
    layers = [{t: rng.dirichlet(np.ones(k), n).T for t, n, k in PARTS} for _ in range(2)]
    lpa = LabelPropagation(graph, TYPES, "movie", max_rounds=1)

    if attentive:
        found = lpa.spread_by_attention(labels, layers)
        wanted = dense_attentive_round(graph, split(labels), layers, 6)
    else:
        found, wanted = lpa.spread(labels), dense_plain_round(graph, split(labels), 6)

    assert_array_equal(split(found)["movie"], wanted["movie"])
    assert_array_equal(split(found)["actor"], wanted["actor"])


PARTS = [("movie", 12, 3), ("actor", 7, 2)]  # own part and relations into the type


def test_rounds_end_where_the_labels_of_the_target_stay() -> None:
    graph = draw_graph(0)
    lpa = LabelPropagation(graph, TYPES, "movie")
    labels = np.random.default_rng(0).integers(6, size=19)

    wanted, seen = split(labels), []
    while len(seen) < 2 or not any(np.array_equal(seen[-1], x) for x in seen[-3:-1]):
        wanted = dense_plain_round(graph, wanted, 6)
        seen.append(wanted["movie"])

    assert_array_equal(split(lpa.spread(labels))["movie"], wanted["movie"])


def test_labels_that_swap_forever_are_left() -> None:
    ring = ("node", "next", "node")
    graph = GraphTensors(
        x={}, num_nodes={"node": 2}, edge_index={ring: torch.tensor([[0, 1], [1, 0]])}
    )

    found = LabelPropagation(graph, [ring], "node", max_rounds=10**9).spread(np.array([0, 1]))

    assert sorted(found) == [0, 1]


def test_two_clusters_survive_on_a_graph_where_all_are_linked() -> None:
    near = ("node", "near", "node")
    ends = np.indices((8, 8)).reshape(2, -1)
    graph = GraphTensors(x={}, num_nodes={"node": 8}, edge_index={near: torch.tensor(ends)})
    lpa = LabelPropagation(graph, [near], "node")

    found = [lpa.draw(3, np.random.default_rng(seed)) for seed in range(5)]

    assert all(len(np.unique(labels)) >= 2 for labels in found)


def test_a_node_that_no_edge_reaches_keeps_its_label() -> None:
    graph = draw_graph(0, n_edges=4)
    reached = np.zeros(19, dtype=bool)
    for (_, _, dst), index in graph.edge_index.items():
        reached[index[1].numpy() + (0 if dst == "movie" else 12)] = True
    labels = np.arange(19) % 5 + 1

    found = LabelPropagation(graph, TYPES, "movie", max_rounds=3).spread(labels)

    assert 0 < reached.sum() < 19
    assert_array_equal(found[~reached], labels[~reached])


def test_a_relation_without_edges_says_nothing() -> None:
    graph = draw_graph(0)
    del graph.edge_index[NEAR]
    labels = np.random.default_rng(0).integers(6, size=19)

    with_it = LabelPropagation(graph, TYPES, "movie").spread(labels)
    without = LabelPropagation(graph, TYPES[:2], "movie").spread(labels)

    assert_array_equal(with_it, without)
