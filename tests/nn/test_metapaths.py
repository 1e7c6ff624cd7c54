"""Metapaths: which there are, how they are written, and which nodes they join."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skmmg.nn import GraphTensors, _metapaths
from skmmg.nn._edges import EdgeStructure
from skmmg.nn._metapaths import (
    check_metapaths,
    compose,
    count_matrix,
    metapath_edges,
    paths_into,
    row_normalized,
    without_diagonal,
)
from skmmg.nn._relations import mean_adjacency

STARS, REV_STARS = ("movie", "stars", "actor"), ("actor", "rev_stars", "movie")
MADE, REV_MADE = ("movie", "made_by", "actor"), ("actor", "rev_made_by", "movie")
SIMILAR = ("movie", "similar", "movie")
KNOWS = ("actor", "knows", "actor")
RELATIONS = (STARS, REV_STARS, SIMILAR, KNOWS)
N_MOVIES, N_ACTORS = 7, 4


def make_graph(n_links: int = 12) -> GraphTensors:
    """Parallel edges, self-loops, and movie 6 without any edge."""
    rng = np.random.default_rng(0)
    stars = rng.integers([[N_MOVIES - 1], [N_ACTORS]], size=(2, n_links))
    similar = np.array([[0, 0, 0, 2, 3], [1, 1, 0, 4, 5]])
    knows = rng.integers(N_ACTORS, size=(2, 5))
    index = {STARS: stars, REV_STARS: stars[::-1].copy(), SIMILAR: similar, KNOWS: knows}
    return GraphTensors(
        x={},
        num_nodes={"movie": N_MOVIES, "actor": N_ACTORS},
        edge_index={e: torch.from_numpy(pairs) for e, pairs in index.items()},
    )


def dense_counts(graph: GraphTensors, edge_type: Any) -> np.ndarray:
    """Edges from source (column) to destination (row), counted one by one."""
    out = np.zeros((graph.num_nodes[edge_type[2]], graph.num_nodes[edge_type[0]]))
    for source, goal in graph.edge_index[edge_type].t().tolist():
        out[goal, source] += 1
    return out


def to_dense(edges: EdgeStructure) -> np.ndarray:
    out = np.zeros((edges.num_nodes, edges.num_nodes))
    np.add.at(out, (edges.dst.numpy(), edges.src.numpy()), 1)
    return out


def join(graph: GraphTensors, path: Any, **options: Any) -> np.ndarray:
    settings: dict[str, Any] = {"max_neighbors": None, "self_loops": False, **options}
    return to_dense(metapath_edges(graph, [path], **settings)[0])


# ------------------------------------------------------------------------------ which there are


def test_auto_takes_one_step_and_two_steps_through_another_type() -> None:
    both = (STARS, REV_STARS, MADE, REV_MADE, SIMILAR, KNOWS)

    found = check_metapaths("auto", both, "movie")

    assert set(found) == {
        (STARS, REV_STARS),
        (STARS, REV_MADE),
        (MADE, REV_STARS),
        (MADE, REV_MADE),
        (SIMILAR,),
    }
    assert len(found) == 5
    assert set(check_metapaths("auto", RELATIONS, "actor")) == {(REV_STARS, STARS), (KNOWS,)}


def test_paths_into_a_type_are_all_walks_that_end_there() -> None:
    assert paths_into(RELATIONS, "movie", 0) == [()]
    assert set(paths_into(RELATIONS, "movie", 2)) == {
        (),
        (REV_STARS,),
        (SIMILAR,),
        (SIMILAR, SIMILAR),
        (REV_STARS, SIMILAR),
        (STARS, REV_STARS),
        (KNOWS, REV_STARS),
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["similar"], [(SIMILAR,)]),
        ([SIMILAR], [(SIMILAR,)]),
        ([("similar",)], [(SIMILAR,)]),
        ([("stars", "rev_stars")], [(STARS, REV_STARS)]),
        ([[STARS, "knows", REV_STARS]], [(STARS, KNOWS, REV_STARS)]),
        ([("similar", "similar"), ("stars", "rev_stars")], [(SIMILAR,) * 2, (STARS, REV_STARS)]),
        (["similar", SIMILAR], [(SIMILAR,)]),
    ],
)
def test_a_metapath_is_relation_names_or_edge_types(given: Any, expected: Any) -> None:
    assert check_metapaths(given, RELATIONS, "movie") == tuple(expected)


def test_a_name_that_two_relations_have_is_read_where_it_fits() -> None:
    edge_types = (("movie", "by", "actor"), ("actor", "by", "movie"), ("movie", "by", "movie"))

    assert check_metapaths(["by"], edge_types, "movie") == ((edge_types[2],),)
    with pytest.raises(ValueError, match=r"\('by', 'by'\) can be read in several ways"):
        check_metapaths([("by", "by")], edge_types, "movie")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("starz", "rev_stars")], r"got 'starz'\. Did you mean 'stars'\? The relations are \[\("),
        ([("stars", "stars")], "has to be a walk from 'movie' back to 'movie'"),
        (["stars"], "Metapath 'stars' has to be a walk"),
        ([()], r"Metapath \(\) has to be a walk"),
        ([[("movie", "star", "actor")]], r"got \('movie', 'star', 'actor'\)"),
        ([[3]], "has to be the name of a relation or an edge type, got 3"),
        ([], r"At least one metapath .* metapaths=\[\].*graph=\"knn\""),
    ],
)
def test_a_metapath_that_is_none_is_an_error_that_names_the_relations(
    given: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        check_metapaths(given, RELATIONS, "movie")

    assert str(STARS) in str(error.value)


def test_a_network_without_a_way_back_has_no_metapath() -> None:
    with pytest.raises(ValueError, match=r"from 'movie' back to 'movie'.*add_reverse=True"):
        check_metapaths("auto", [STARS], "movie")


# ------------------------------------------------------------------------------ whom they join


@pytest.mark.parametrize("self_loops", [False, True])
@pytest.mark.parametrize("path", [(STARS, REV_STARS), (SIMILAR,), (STARS, KNOWS, REV_STARS)])
@pytest.mark.parametrize("block", [1, 1 << 23])
def test_neighbours_are_the_pairs_that_a_walk_joins_each_once(
    path: Any, self_loops: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_metapaths, "_BLOCK_WALKS", block)
    graph = make_graph()
    walks = np.eye(N_MOVIES)
    for edge_type in path:
        walks = dense_counts(graph, edge_type) @ walks
    expected = walks > 0
    if self_loops:
        expected |= np.eye(N_MOVIES, dtype=bool)

    assert_array_equal(join(graph, path, self_loops=self_loops), expected)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_hub_keeps_the_neighbours_it_shares_most_walks_with(size: int) -> None:
    graph, path = make_graph(n_links=40), (STARS, REV_STARS)
    counts = dense_counts(graph, REV_STARS) @ dense_counts(graph, STARS)
    np.fill_diagonal(counts, 0)

    kept = join(graph, path, max_neighbors=size, self_loops=True)

    assert_array_equal(np.diag(kept), 1)
    np.fill_diagonal(kept, 0)
    for row, chosen in zip(counts, kept, strict=True):
        strongest = np.sort(row[row > 0])[-size:]
        assert_array_equal(np.sort(row[chosen > 0]), strongest)


def chosen_of(n_nodes: int, size: int) -> np.ndarray:
    """Neighbours kept where everyone is joined to everyone by one hub."""
    links = torch.stack([torch.arange(n_nodes), torch.zeros(n_nodes, dtype=torch.long)])
    graph = GraphTensors(
        {}, {"movie": n_nodes, "actor": 1}, {STARS: links, REV_STARS: links.flip(0)}
    )
    return join(graph, (STARS, REV_STARS), max_neighbors=size)


def test_among_equals_the_choice_is_reproducible_and_spread_over_the_nodes() -> None:
    first, second = chosen_of(200, 5), chosen_of(200, 5)

    assert_array_equal(first, second)
    assert_array_equal(first.sum(1), 5)
    assert first.sum(0).max() < 20  # and not the same five for all


def test_the_composed_graph_is_kept_with_the_edges() -> None:
    graph = make_graph()
    options: dict[str, Any] = {"max_neighbors": None, "self_loops": True}

    first = metapath_edges(graph, [(SIMILAR,)], **options)

    assert metapath_edges(graph, [(SIMILAR,)], **options) is first
    assert metapath_edges(graph.shuffled(), [(SIMILAR,)], **options) is first
    assert metapath_edges(graph, [(SIMILAR,)], max_neighbors=1, self_loops=True) is not first


def test_too_many_pairs_or_walks_are_refused_before_they_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_metapaths, "_MAX_PAIRS", 20)
    refusal = r"actor -> rev_stars -> movie join more.* Set max_neighbors to 2 or less \(it is None"
    with pytest.raises(ValueError, match=refusal):
        join(make_graph(), (STARS, REV_STARS))
    with pytest.raises(ValueError, match=r"join more.* Set max_neighbors to 1 or less \(it is 3"):
        join(make_graph(), (STARS, REV_STARS), max_neighbors=3, self_loops=True)
    assert join(make_graph(), (STARS, REV_STARS), max_neighbors=2).sum() <= 20

    monkeypatch.setattr(_metapaths, "_MAX_WALKS", 20)
    with pytest.raises(ValueError, match=r"stands for .* walks.* Name the metapaths without it"):
        join(make_graph(), (STARS, REV_STARS))


# ------------------------------------------------------------------------------ means


@pytest.mark.parametrize("edge_type", RELATIONS)
def test_a_mean_matrix_averages_over_the_in_edges(edge_type: Any) -> None:
    graph = make_graph()
    counts = dense_counts(graph, edge_type)
    x = torch.randn(counts.shape[1], 3, dtype=torch.float64)

    found = mean_adjacency(graph, edge_type, torch.float64) @ x

    assert_allclose(found, counts / np.maximum(counts.sum(1, keepdims=True), 1) @ x.numpy())


@pytest.mark.parametrize("block", [1, 5, 1 << 23])
def test_means_compose_without_their_diagonal(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_metapaths, "_BLOCK_WALKS", block)
    graph = make_graph()
    chain = [row_normalized(count_matrix(graph, e)) for e in (REV_STARS, KNOWS, STARS)]

    found = compose(chain, without_diagonal, (STARS, KNOWS, REV_STARS), 1000, "").toarray()

    dense = chain[0].toarray() @ chain[1].toarray() @ chain[2].toarray()
    np.fill_diagonal(dense, 0)
    assert_allclose(found, dense, atol=1e-15)


def test_rows_of_a_sparse_matrix_are_taken_with_their_gradient() -> None:
    graph = make_graph()
    matrix = mean_adjacency(graph, REV_STARS, torch.float64)
    ids = torch.tensor([6, 2, 2, 0])
    x = torch.randn(N_ACTORS, 3, dtype=torch.float64, requires_grad=True)

    found = matrix.take(ids) @ x

    expected = (matrix @ x)[ids]
    assert_allclose(found.detach(), expected.detach(), atol=1e-15)
    weight = torch.randn(4, 3, dtype=torch.float64)
    grads = [torch.autograd.grad((out * weight).sum(), x)[0] for out in (found, expected)]
    assert_allclose(grads[0], grads[1], atol=1e-12)
