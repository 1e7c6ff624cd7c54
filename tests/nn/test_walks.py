"""Random walks: they visit nodes as often as they should, and do not mind other nodes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skmmg.nn._edges import EdgeStructure
from skmmg.nn._walks import Walker

SIZES = {"movie": 6, "actor": 4}
TYPES = (("movie", "stars", "actor"), ("actor", "rev", "movie"), ("movie", "near", "movie"))


def draw_edges(seed: int = 0) -> EdgeStructure:
    rng = np.random.default_rng(seed)
    index = {
        e: torch.tensor(rng.integers([[SIZES[e[0]]], [SIZES[e[2]]]], size=(2, 12))) for e in TYPES
    }
    return EdgeStructure(index, SIZES, TYPES)


def transition(edges: EdgeStructure) -> np.ndarray:
    """Probability to go from a node to each of its in-neighbours, (n_nodes, n_nodes)."""
    P = np.zeros((10, 10))
    for dst, src in zip(edges.dst.numpy(), edges.src.numpy(), strict=True):
        P[dst, src] += 1
    return P / np.maximum(P.sum(1, keepdims=True), 1)


@pytest.mark.parametrize("restart_prob", [0.2, 0.5])
def test_nodes_are_visited_as_often_as_a_markov_chain_says(restart_prob: float) -> None:
    edges = draw_edges()
    P = transition(edges)
    counts = np.zeros((10, 10))
    for start in range(10):
        visits = Walker(edges, seed=0).visits(np.array([start]), 20_000, restart_prob)
        counts[start] = np.bincount(visits[visits >= 0], minlength=10)

    for start in range(10):
        home = np.eye(10)[start]
        # a node without in-neighbours sends the walk home, as a restart does
        stuck = P.sum(1) == 0
        Q = restart_prob * home + (1 - restart_prob) * (P + np.outer(stuck, home))
        occupied = np.linalg.matrix_power(Q, 200)[start]
        wanted = (1 - restart_prob) * (occupied @ P) * (1 - home)
        assert_allclose(counts[start] / 20_000, wanted, atol=0.02)


def test_neighbours_are_those_visited_most_by_type_and_repeated_where_few() -> None:
    edges = draw_edges()
    starts = np.arange(10)
    walker = Walker(edges, seed=3)

    found = walker.neighborhood(starts, edges.node_slices, size=5, n_visits=60, restart_prob=0.4)

    visits = walker.visits(starts, 100, 0.4)
    for start in starts:
        for t, part in enumerate(edges.node_slices.values()):
            counts = np.bincount(visits[start][visits[start] >= 0], minlength=10)
            counts[: part.start] = 0
            counts[part.stop :] = 0
            ranked = sorted(np.flatnonzero(counts), key=lambda v: (-counts[v], v))[:5]
            assert bool(found.found[start, t]) is bool(ranked)
            if ranked:
                wanted = [ranked[i % len(ranked)] for i in range(5)]
                assert found.nodes[start, t].tolist() == wanted


def test_walks_follow_edges_and_end_where_there_are_none() -> None:
    chain = EdgeStructure(
        {("n", "r", "n"): torch.tensor([[0, 1, 2], [1, 2, 3]])}, {"n": 4}, [("n", "r", "n")]
    )

    walks = Walker(chain, seed=0).walks(np.arange(4), 5, 2)

    assert walks.shape == (8, 5)
    assert_array_equal(walks[3], [3, 2, 1, 0, -1])
    assert_array_equal(walks[4], [0, -1, -1, -1, -1])


def test_steps_are_even_over_in_edges() -> None:
    edges = draw_edges(1)
    walks = Walker(edges, seed=0).walks(np.array([0]), 2, 20_000)

    share = np.bincount(walks[:, 1], minlength=10) / 20_000

    assert_allclose(share, transition(edges)[0], atol=0.015)


def test_a_nodes_walks_do_not_depend_on_the_others_and_change_with_the_seed() -> None:
    edges = draw_edges()
    together = Walker(edges, seed=1).visits(np.arange(10), 30, 0.5)

    assert_array_equal(Walker(edges, seed=1).visits(np.array([7]), 30, 0.5)[0], together[7])
    assert (Walker(edges, seed=2).visits(np.arange(10), 30, 0.5) != together).any()


def test_a_graph_without_edges_has_no_neighbours() -> None:
    bare = EdgeStructure({}, {"n": 3}, [], torch.device("cpu"))
    walker = Walker(bare, seed=0)

    hood = walker.neighborhood(np.arange(3), bare.node_slices, size=2, n_visits=5, restart_prob=0.5)

    assert not hood.found.any()
    assert (walker.walks(np.arange(3), 3, 1)[:, 1:] == -1).all()
