"""The structural matrix against brute force on small graphs."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skmmg.nn import _rings, _structure
from skmmg.nn._dtw import Sequences, warping_distances
from skmmg.nn._structure import StructuralMatrix, structural_weights

List = list[tuple[int, int]]


def cost(a: tuple[int, int], b: tuple[int, int]) -> float:
    return ((max(a[0], b[0]) + 0.5) / (min(a[0], b[0]) + 0.5) - 1) * max(a[1], b[1])


def warp(a: List, b: List) -> float:
    """Textbook dynamic time warping."""
    table = np.full((len(a) + 1, len(b) + 1), np.inf)
    table[0, 0] = 0
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1, j + 1] = cost(x, y) + min(table[i, j], table[i, j + 1], table[i + 1, j])
    return float(table[-1, -1])


def rings_of(into: np.ndarray, node: int, max_ring: int) -> list[List]:
    """Rings by breadth-first search, as (degree, count), without the empty ones."""
    degree = into.sum(1).astype(int)
    seen, ring, out = {node}, {node}, []
    for _ in range(max_ring):
        ring = {int(j) for i in ring for j in np.flatnonzero(into[i])} - seen
        seen |= ring
        if ring:
            values, counts = np.unique(degree[list(ring)], return_counts=True)
            out.append(list(zip(values.tolist(), counts.tolist(), strict=True)))
    return out


def distances(into: np.ndarray, max_ring: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances of all pairs, infinite where they are not compared, and numbers of rings."""
    n, degree = len(into), into.sum(1)
    rings = [rings_of(into, i, max_ring) for i in range(n)]
    distance = np.full((n, n), np.inf)
    for i, j in itertools.permutations(range(n), 2):
        if degree[i] == degree[j] and len(rings[i]) == len(rings[j]):
            pairs = zip(rings[i], rings[j], strict=True)
            distance[i, j] = round(sum(warp(a, b) for a, b in pairs), 9)
    return distance, np.array([len(r) for r in rings])


def brute_force(into: np.ndarray, gives: np.ndarray, max_ring: int) -> np.ndarray:
    """The structural matrix over all pairs of nodes."""
    distance, n_rings = distances(into.astype(bool) & ~np.eye(len(into), dtype=bool), max_ring)
    weight = np.zeros_like(distance)
    for layer in set(n_rings):
        counted = (n_rings == layer) & gives
        known = distance[np.ix_(counted, counted)]
        smallest = np.unique(known[np.isfinite(known)])
        d1 = 0.0 if not len(smallest) else smallest[min(1, len(smallest) - 1)]
        for i, j in itertools.product(np.flatnonzero(n_rings == layer), np.flatnonzero(counted)):
            f = distance[i, j]
            far = np.exp(1 - f / d1) if d1 > 0 else 0.0
            weight[i, j] = 1.0 if f <= d1 else far * (far > 0.01)
    return weight


def draw_graph(seed: int, n: int = 30, *, directed: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    into = rng.random((n, n)) < rng.choice([0.03, 0.06, 0.12])
    into = into if directed else into | into.T
    into[3:5, 3:5] = True  # loops, too
    return into


def to_dense(into: np.ndarray, gives: np.ndarray, max_ring: int, max_pairs: int) -> np.ndarray:
    shape_of, weight = structural_weights(
        sp.csr_array(into.astype(np.int32)), gives, max_ring=max_ring, max_pairs=max_pairs
    )
    matrix = StructuralMatrix(shape_of, weight, gives, torch.device("cpu"), torch.float64)
    dense = (matrix @ torch.eye(len(into), dtype=torch.float64)).numpy()
    assert_allclose(matrix.degree, dense.sum(1), atol=1e-12)
    return dense


@pytest.mark.parametrize("block", [4, 1 << 18])
def test_the_warping_distance_is_that_of_the_textbook(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("skmmg.nn._dtw._BLOCK", block)
    rng = np.random.default_rng(0)
    lists = [
        sorted(zip(rng.choice(40, size=k, replace=False).tolist(),
                   rng.integers(1, 9, size=k).tolist(), strict=True))
        for k in rng.integers(1, 12, size=25)
    ]  # fmt: skip
    flat = np.array([pair for items in lists for pair in items], dtype=float)
    offsets = np.cumsum([0, *map(len, lists)])
    first, second = rng.integers(25, size=(2, 60))

    found = warping_distances(Sequences(offsets, flat[:, 0], flat[:, 1]), first, second)

    expected = [warp(lists[a], lists[b]) for a, b in zip(first, second, strict=True)]
    assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("max_ring", [1, 2, 3])
@pytest.mark.parametrize("seed", range(6))
def test_the_structural_matrix_is_that_of_brute_force(seed: int, max_ring: int) -> None:
    into, everyone = draw_graph(seed), np.ones(30, dtype=bool)

    dense = to_dense(into, everyone, max_ring, max_pairs=60)

    expected = brute_force(into, everyone, max_ring)
    assert_allclose(dense, expected, atol=1e-9)
    assert_allclose(dense, dense.T)
    assert (expected[expected < 1] > 0).any() or max_ring == 1


@pytest.mark.parametrize("seed", range(4))
def test_nodes_that_do_not_give_are_nobodys_neighbours_and_change_nothing(seed: int) -> None:
    into = draw_graph(seed, directed=True)
    into[:, 25:] = False  # no edge leaves the last five
    gives = np.arange(30) < 25

    dense = to_dense(into, gives, max_ring=2, max_pairs=60)

    assert_allclose(dense, brute_force(into, gives, 2), atol=1e-9)
    alone = to_dense(into[:25, :25], gives[:25], max_ring=2, max_pairs=60)
    assert_allclose(dense[:25, :25], alone, atol=1e-12)
    fewer = to_dense(into[:27, :27], gives[:27], max_ring=2, max_pairs=4)
    assert_allclose(to_dense(into, gives, max_ring=2, max_pairs=4)[:27, :27], fewer, atol=1e-12)


def test_renumbering_the_nodes_renumbers_the_matrix_under_a_limit_too() -> None:
    into, everyone = draw_graph(1, 60), np.ones(60, dtype=bool)
    order = np.random.default_rng(1).permutation(60)

    dense = to_dense(into, everyone, 2, max_pairs=2)

    other = to_dense(into[np.ix_(order, order)], everyone, 2, max_pairs=2)
    assert_allclose(other, dense[np.ix_(order, order)], atol=1e-12)
    assert 0 < dense.sum() < to_dense(into, everyone, 2, max_pairs=100).sum()


def test_blocks_of_nodes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    into, everyone = draw_graph(2), np.ones(30, dtype=bool)
    whole = to_dense(into, everyone, 3, max_pairs=8)

    monkeypatch.setattr(_rings, "_ROWS", 7)

    assert_array_equal(to_dense(into, everyone, 3, max_pairs=8), whole)


def test_nodes_of_a_regular_graph_are_all_alike() -> None:
    ring = np.roll(np.eye(12), 1, axis=1) + np.roll(np.eye(12), -1, axis=1)

    dense = to_dense(ring, np.ones(12, dtype=bool), 2, max_pairs=4)

    assert_array_equal(dense, 1 - np.eye(12))


def test_a_graph_without_edges_has_no_structure() -> None:
    nobody = np.zeros(5, dtype=bool)

    assert_array_equal(to_dense(np.zeros((5, 5)), nobody, 2, max_pairs=4), np.zeros((5, 5)))


def test_what_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    into, everyone = draw_graph(0), np.ones(30, dtype=bool)
    monkeypatch.setattr(_rings, "_MOST_STEPS", 10.0)
    with pytest.raises(ValueError, match=r"up to max_ring=2 takes about .* Lower max_ring\."):
        to_dense(into, everyone, 2, max_pairs=4)
    monkeypatch.setattr(_rings, "_MOST_STEPS", 1e9)
    monkeypatch.setattr(_structure, "_MOST_CELLS", 10.0)
    with pytest.raises(ValueError, match=r"pairs of nodes takes .* Lower max_pairs or max_ring"):
        to_dense(into, everyone, 2, max_pairs=4)
