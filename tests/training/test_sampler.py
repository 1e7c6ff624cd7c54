"""The sampler: right edges, no repeats, the same draws however they are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skmmg.training._sampler import Hop, Neighborhood, NeighborSampler

KINDS = [False, pytest.param(True, id="numba")]
N_NODES = {"movie": 60, "actor": 40, "tag": 7}
STARS, REVERSE = ("movie", "stars", "actor"), ("actor", "rev_stars", "movie")
SIMILAR, TAGGED = ("movie", "similar", "movie"), ("tag", "describes", "movie")


def make_edges() -> dict[Any, np.ndarray]:
    """Parallel edges, self-loops, a hub, nodes without edges, and a relation without any."""
    rng = np.random.default_rng(0)
    stars = np.stack([rng.integers(50, size=150), rng.integers(40, size=150)])
    hub = np.stack([rng.integers(60, size=80), np.zeros(80, dtype=np.int64)])
    return {
        STARS: stars,
        SIMILAR: np.hstack([rng.integers(60, size=(2, 90)), hub, [[3, 3], [3, 3]]]),
        TAGGED: np.stack([rng.integers(7, size=30), rng.integers(60, size=30)]),
        REVERSE: stars[::-1].copy(),
        ("tag", "near", "tag"): np.zeros((2, 0), dtype=np.int64),
    }


def make_sampler(compiled: bool = False, **options: Any) -> NeighborSampler:
    if compiled:
        pytest.importorskip("numba")
    return NeighborSampler(make_edges(), N_NODES, compiled=compiled, **options)


def global_edges(part: Neighborhood, edge_type: Any) -> np.ndarray:
    src, _, dst = edge_type
    index = part.edge_index[edge_type]
    return np.stack([part.nodes[src][index[0]], part.nodes[dst][index[1]]])


def reached(seeds: dict[str, set[int]], n_hops: int) -> tuple[dict[str, set[int]], dict[str, Any]]:
    """Nodes within some steps, and those of them whose edges were followed, by brute force."""
    found = {t: set(seeds.get(t, ())) for t in N_NODES}
    followed: dict[str, set[int]] = {t: set() for t in N_NODES}
    for _ in range(n_hops):
        followed = {t: set(ids) for t, ids in found.items()}
        for (src, _rel, dst), index in make_edges().items():
            found[src] |= {int(u) for u, v in index.T if v in followed[dst]}
    return found, followed


@pytest.mark.parametrize("compiled", KINDS)
@pytest.mark.parametrize("n_hops", [0, 1, 2, 3])
def test_without_a_limit_all_edges_within_reach_are_taken(compiled: bool, n_hops: int) -> None:
    seeds = {"movie": np.array([5, 8]), "tag": np.array([1])}

    part = make_sampler(compiled).sample(seeds, [Hop(-1)] * n_hops)

    found, followed = reached({t: set(ids.tolist()) for t, ids in seeds.items()}, n_hops)
    for node_type, ids in part.nodes.items():
        assert_array_equal(ids, sorted(found[node_type]))
    for edge_type, index in make_edges().items():
        expected = index[:, [v in followed[edge_type[2]] for v in index[1]]]
        drawn = global_edges(part, edge_type)
        assert sorted(drawn.T.tolist()) == sorted(expected.T.tolist())
        for node in np.unique(drawn[1]):  # in the graph's order, so that sums are the same
            assert_array_equal(drawn[0][drawn[1] == node], index[0][index[1] == node])


@pytest.mark.parametrize("compiled", KINDS)
def test_a_node_draws_as_many_edges_as_it_may_and_none_twice(compiled: bool) -> None:
    edges = make_edges()
    weights = {e: np.arange(index.shape[1], dtype=np.float32) for e, index in edges.items()}
    sampler = make_sampler(compiled, edge_weight=weights)

    part = sampler.sample({"movie": np.arange(60)}, [Hop(2)], seed=3)

    for edge_type in (SIMILAR, TAGGED, REVERSE):
        numbers = part.edge_weight[edge_type].astype(int)  # a weight is the number of its edge
        assert_array_equal(edges[edge_type][:, numbers], global_edges(part, edge_type))
        assert len(np.unique(numbers)) == len(numbers)
        degree = np.bincount(edges[edge_type][1], minlength=60)
        drawn = np.bincount(global_edges(part, edge_type)[1], minlength=60)
        assert_array_equal(drawn, np.minimum(degree, 2))


@pytest.mark.parametrize("fan_out", [1, 3, -1])
def test_numba_and_numpy_draw_the_same(fan_out: int) -> None:
    hops = [
        Hop(fan_out),
        Hop(fan_out),
        Hop(2, {t: np.arange(n) % 2 == 0 for t, n in N_NODES.items()}),
    ]
    for seed in range(5):
        parts = [make_sampler(c).sample({"movie": np.arange(4)}, hops, seed) for c in (False, True)]
        for node_type, ids in parts[0].nodes.items():
            assert_array_equal(parts[1].nodes[node_type], ids)
            assert len(np.unique(ids)) == len(ids)
        for edge_type in parts[0].edge_index:
            first, second = (global_edges(part, edge_type).T.tolist() for part in parts)
            assert sorted(first) == sorted(second)


@pytest.mark.parametrize("fan_out", [1, 2, 7, 16, 17, 40, 64, 70])
def test_numba_and_numpy_draw_the_same_in_the_same_order_of_any_degree(fan_out: int) -> None:
    pytest.importorskip("numba")
    degree = np.arange(150)
    rng = np.random.default_rng(0)
    node = rng.permutation(np.repeat(degree, degree))
    edges = {("b", "to", "a"): np.stack([rng.integers(300, size=len(node)), node])}
    weights = {("b", "to", "a"): np.arange(len(node))}

    parts = [
        NeighborSampler(edges, {"a": 150, "b": 300}, weights, compiled=c).sample(
            {"a": degree}, [Hop(fan_out)], seed=5
        )
        for c in (False, True)
    ]

    for part in parts:
        drawn = np.bincount(part.edge_index["b", "to", "a"][1], minlength=150)
        assert_array_equal(drawn, np.minimum(degree, fan_out))
        assert len(np.unique(part.edge_weight["b", "to", "a"])) == drawn.sum()
        assert_array_equal(part.nodes["b"], parts[0].nodes["b"])
        assert_array_equal(*(p.edge_index["b", "to", "a"] for p in (part, parts[0])))
        assert_array_equal(*(p.edge_weight["b", "to", "a"] for p in (part, parts[0])))


@pytest.mark.parametrize("compiled", KINDS)
def test_a_node_draws_the_same_in_every_batch_with_the_same_seed(compiled: bool) -> None:
    sampler = make_sampler(compiled)

    alone = sampler.sample({"movie": np.array([0])}, [Hop(3)], seed=1)
    among = sampler.sample({"movie": np.arange(60)[::-1]}, [Hop(3)], seed=1)
    other = sampler.sample({"movie": np.array([0])}, [Hop(3)], seed=2)

    def into_first(part: Neighborhood) -> list[int]:
        edges = global_edges(part, SIMILAR)
        return sorted(edges[0][edges[1] == 0].tolist())

    assert into_first(alone) == into_first(among)
    assert into_first(alone) != into_first(other)


@pytest.mark.parametrize("compiled", KINDS)
def test_every_edge_is_drawn_equally_often(compiled: bool) -> None:
    if compiled:
        pytest.importorskip("numba")
    edges = {("a", "to", "a"): np.stack([np.arange(10), np.zeros(10, dtype=np.int64)])}
    sampler = NeighborSampler(edges, {"a": 10}, compiled=compiled)

    drawn = [
        global_edges(sampler.sample({"a": np.array([0])}, [Hop(3)], seed), ("a", "to", "a"))[0]
        for seed in range(2000)
    ]

    counts = np.bincount(np.concatenate(drawn), minlength=10)
    assert counts.sum() == 6000
    assert (abs(counts - 600) < 5 * np.sqrt(600 * 0.7)).all()
    pairs = np.zeros((10, 10))
    for ids in drawn:
        pairs[np.ix_(ids, ids)] += 1
    off = pairs[~np.eye(10, dtype=bool)]  # 2000 * 3/10 * 2/9 = 133 each
    assert (abs(off - 400 / 3) < 5 * np.sqrt(400 / 3)).all()


@pytest.mark.parametrize("compiled", KINDS)
@pytest.mark.parametrize(("degree", "fan_out"), [(5, 4), (10, 5), (10, 7), (64, 40), (65, 40)])
def test_every_set_of_neighbours_is_as_likely_at_every_node(
    compiled: bool, degree: int, fan_out: int
) -> None:
    if compiled:
        pytest.importorskip("numba")
    n_nodes = 4000
    edge = np.arange(n_nodes * degree)
    edges = {("b", "to", "a"): np.stack([edge % degree, edge // degree])}
    sampler = NeighborSampler(edges, {"a": n_nodes, "b": degree}, compiled=compiled)

    part = sampler.sample({"a": np.arange(n_nodes)}, [Hop(fan_out)], seed=1)

    drawn = np.zeros((n_nodes, degree))
    source, node = global_edges(part, ("b", "to", "a"))
    drawn[node, source] = 1
    assert (drawn.sum(1) == fan_out).all()
    p = fan_out / degree
    both = p * (fan_out - 1) / (degree - 1)
    expected = np.where(np.eye(degree, dtype=bool), p, both)
    error = drawn.T @ drawn / n_nodes - expected
    assert (abs(error) < 5 * np.sqrt(expected * (1 - expected) / n_nodes)).all()


def test_a_step_may_be_for_some_nodes_only() -> None:
    only = {t: np.zeros(n, dtype=bool) for t, n in N_NODES.items()}

    part = make_sampler().sample({"movie": np.arange(5)}, [Hop(-1, only)])

    assert_array_equal(part.nodes["movie"], np.arange(5))
    assert all(index.shape == (2, 0) for index in part.edge_index.values())


@pytest.mark.parametrize("compiled", KINDS)
def test_a_sampler_can_be_used_again_and_by_threads(compiled: bool) -> None:
    from concurrent.futures import ThreadPoolExecutor

    sampler = make_sampler(compiled)

    def sample(seed: int) -> Neighborhood:
        return sampler.sample({"movie": np.array([seed])}, [Hop(2), Hop(2)], seed)

    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(sample, range(40)))

    for seed, part in enumerate(parts):
        expected = make_sampler(compiled).sample(
            {"movie": np.array([seed])}, [Hop(2), Hop(2)], seed
        )
        assert_array_equal(part.nodes["movie"], expected.nodes["movie"])
        assert_array_equal(part.edge_index[SIMILAR], expected.edge_index[SIMILAR])
