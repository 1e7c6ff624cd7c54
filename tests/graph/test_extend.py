"""MultiModalGraph.extend: the same graph as one that is made anew of all nodes and edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import sparse

from skmmg import MultiModalGraphClassifier
from skmmg.graph import MultiModalGraph

STARS, REV_STARS = ("movie", "stars", "actor"), ("actor", "rev_stars", "movie")
LIKE, REV_LIKE = ("movie", "like", "movie"), ("movie", "rev_like", "movie")
POSTER = np.array([[0.0, 1.0], [np.nan, np.nan], [2.0, np.nan], [3.0, 4.0]])
TEXT = sparse.csr_array(np.diag([1.0, 2.0, 3.0, 4.0]))


@pytest.fixture
def graph() -> MultiModalGraph:
    return MultiModalGraph(
        {
            "movie": {"text": TEXT, "poster": POSTER, "year": np.array([[1], [2], [3], [4]])},
            "actor": 2,
        },
        {
            STARS: [[0, 1, 3], [0, 1, 1]],
            LIKE: sparse.coo_array(([0.5, 2.0], ([0, 1], [1, 3])), shape=(4, 4)),
        },
        masks={"movie": {"text": [True, True, False, True]}},
    )


def assert_same(one: MultiModalGraph, other: MultiModalGraph) -> None:
    assert one.schema == other.schema
    assert dict(one.n_nodes) == dict(other.n_nodes)
    for node_type, matrices in one.x.items():
        for modality, matrix in matrices.items():
            here, there = (
                m.toarray() if sparse.issparse(m) else m
                for m in (matrix, other.x[node_type][modality])
            )
            present = one.present(node_type, modality)
            assert_array_equal(present, other.present(node_type, modality))
            assert_array_equal(here[present], there[present])
    for edge_type, index in one.edge_index.items():
        assert_array_equal(index, other.edge_index[edge_type])
        assert (edge_type in one.edge_weight) == (edge_type in other.edge_weight)
        if edge_type in one.edge_weight:
            assert_array_equal(one.edge_weight[edge_type], other.edge_weight[edge_type])


# --------------------------------------------------------------------------- the same graph


def test_it_is_the_graph_of_all_nodes_and_edges(graph: MultiModalGraph) -> None:
    grown = graph.extend(
        {
            "movie": {"text": TEXT[:2], "poster": POSTER[1:3], "year": [[5], [6]]},
            "actor": 1,
        },
        {
            STARS: [[5, 0], [2, 2]],
            LIKE: sparse.coo_array(([3.0, 1.0], ([4, 0], [5, 4])), shape=(6, 6)),
        },
        masks={"movie": {"text": [False, True]}},
    )

    assert_same(
        grown,
        MultiModalGraph(
            {
                "movie": {
                    "text": sparse.vstack([TEXT, TEXT[:2]]),
                    "poster": np.concatenate([POSTER, POSTER[1:3]]),
                    "year": np.arange(1, 7)[:, None],
                },
                "actor": 3,
            },
            {
                STARS: [[0, 1, 3, 5, 0], [0, 1, 1, 2, 2]],
                LIKE: sparse.coo_array(
                    ([0.5, 2.0, 3.0, 1.0], ([0, 1, 4, 0], [1, 3, 5, 4])), shape=(6, 6)
                ),
            },
            masks={"movie": {"text": [True, True, False, True, False, True]}},
        ),
    )


@given(st.integers(0, 2**32 - 1))
def test_a_graph_is_what_its_first_nodes_have_grown_to(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, old = 6, int(rng.integers(1, 6))
    x = rng.normal(size=(n, 3)).astype(np.float32)
    x[rng.random(n) < 0.3] = np.nan
    x[0] = 1.0
    counts = sparse.random_array((n, 4), density=0.5, rng=rng)
    index = rng.integers(0, n, size=(2, int(rng.integers(0, 12))))
    mask = rng.random(n) < 0.7
    is_old = (index < old).all(axis=0)
    index = np.concatenate([index[:, is_old], index[:, ~is_old]], axis=1)
    n_old = int(is_old.sum())

    def make(stop: int, edges: Any, **options: Any) -> MultiModalGraph:
        nodes = {"a": {"x": x[:stop], "counts": counts[:stop]}}
        return MultiModalGraph(
            nodes, {"to": edges}, masks={"a": {"counts": mask[:stop]}}, **options
        )

    before = make(old, index[:, :n_old], add_reverse=False)
    after = before.extend(
        {"a": {"x": x[old:], "counts": counts[old:]}},
        {"to": index[:, n_old:]},
        masks={"a": {"counts": mask[old:]}},
        add_reverse=False,
    )

    assert_same(after, make(n, index, add_reverse=False))


def test_what_is_left_out_is_missing(graph: MultiModalGraph) -> None:
    grown = graph.extend({"movie": {"poster": [[7.0, 8.0]]}}).extend({"movie": 2})

    assert grown.present("movie", "poster").tolist() == [
        True,
        False,
        True,
        True,
        True,
        False,
        False,
    ]
    assert grown.present("movie", "text").tolist() == [True, True, False, True] + 3 * [False]
    assert grown.present("movie", "year").tolist() == [True] * 4 + [False] * 3
    assert grown.n_nodes["actor"] == 2


def test_the_graph_itself_stays_as_it_was(graph: MultiModalGraph) -> None:
    edges = {e: index.copy() for e, index in graph.edge_index.items()}
    graph.extend({"movie": 3, "actor": 1}, {STARS: [[6], [2]]})

    assert dict(graph.n_nodes) == {"movie": 4, "actor": 2}
    assert graph.masks["movie"]["text"].tolist() == [True, True, False, True]
    for edge_type, index in edges.items():
        assert_array_equal(graph.edge_index[edge_type], index)


def test_types_that_get_no_nodes_keep_their_matrices(graph: MultiModalGraph) -> None:
    grown = graph.extend({"actor": 1}, {STARS: [[0], [2]]})
    assert np.shares_memory(grown.x["movie"]["poster"], POSTER)
    assert not grown.x["movie"]["poster"].flags.writeable


def test_a_graph_of_one_type_needs_no_names_of_types() -> None:
    grown = MultiModalGraph({"x": np.eye(3)}, {"near": [[0], [1]]}).extend(
        {"x": np.eye(3)[:1]}, {"near": [[3], [0]]}, masks={"x": [False]}
    )
    assert grown.present("node", "x").tolist() == [True, True, True, False]
    assert grown.edge_index["node", "near", "node"].tolist() == [[0, 3], [1, 0]]


def test_edges_alone_are_added(graph: MultiModalGraph) -> None:
    grown = graph.extend({}, {STARS: [[2], [0]]})
    assert grown.edge_index[STARS].tolist() == [[0, 1, 3, 2], [0, 1, 1, 0]]
    assert dict(grown.n_nodes) == dict(graph.n_nodes)


def test_edges_without_weight_weigh_one(graph: MultiModalGraph) -> None:
    grown = graph.extend({}, {LIKE: [[2], [0]]})
    assert grown.edge_weight[LIKE].tolist() == [0.5, 2.0, 1.0]

    weighted = sparse.coo_array(([4.0], ([2], [0])), shape=(4, 2))
    assert graph.extend({}, {STARS: weighted}).edge_weight[STARS].tolist() == [1.0, 1.0, 1.0, 4.0]


# --------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize(
    ("old", "new", "dtype"),
    [
        (np.float32([[1]]), np.float64([[0.1]]), np.float32),
        (np.float64([[1]]), np.float32([[0.5]]), np.float64),
        (np.int8([[1]]), np.int64([[2]]), np.int8),
        (np.int8([[1]]), np.int64([[300]]), np.int64),
        (np.uint8([[1]]), np.int64([[-1]]), np.int64),
        (np.int64([[1]]), np.float64([[2.5]]), np.float64),
        (np.int64([[1]]), np.float64([[np.nan]]), np.float64),
        (np.array([[True]]), np.array([[7]]), np.int64),
        (np.float32([[1]]), np.array([[True]]), np.float32),
    ],
)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_numbers_stay_what_they_are(old: Any, new: Any, dtype: Any, form: Any) -> None:
    grown = MultiModalGraph({"x": form(old)}).extend({"x": form(new)}).x["node"]["x"]
    dense: Any = grown.toarray() if sparse.issparse(grown) else grown

    assert grown.dtype == dtype
    assert_array_equal(dense, np.concatenate([old, new.astype(dtype)]).astype(dtype))


def test_dense_rows_go_into_a_sparse_matrix_and_the_other_way() -> None:
    graph = MultiModalGraph({"dense": np.eye(2), "sparse": sparse.eye_array(2)})
    grown = graph.extend({"dense": sparse.eye_array(1, 2), "sparse": np.array([[np.nan, np.nan]])})

    assert isinstance(grown.x["node"]["sparse"], sparse.csr_array)
    assert grown.x["node"]["dense"].tolist() == [[1, 0], [0, 1], [1, 0]]
    assert grown.present("node", "sparse").tolist() == [True, True, False]


# --------------------------------------------------------------------------- reverses


def test_a_reverse_that_has_another_name_gets_the_new_edges() -> None:
    graph = MultiModalGraph(
        {"a": 2, "b": 2}, {("a", "of", "b"): [[0, 1], [1, 1]], ("b", "has", "a"): [[1, 1], [1, 0]]}
    )
    grown = graph.extend({}, {("b", "has", "a"): [[0], [1]]})
    assert grown.edge_index["a", "of", "b"].tolist() == [[0, 1, 1], [1, 1, 0]]


def test_a_reverse_that_is_given_is_left_alone(graph: MultiModalGraph) -> None:
    grown = graph.extend({}, {STARS: [[2], [0]], REV_STARS: [[1], [2]]})
    assert grown.edge_index[REV_STARS].tolist() == [[0, 1, 1, 1], [0, 1, 3, 2]]
    assert graph.extend({}, {STARS: [[2], [0]]}, add_reverse=False).edge_index[REV_STARS].shape == (
        2,
        3,
    )


def test_a_relation_that_is_its_own_reverse_stays_so() -> None:
    graph = MultiModalGraph({"x": np.eye(3)}, {"near": [[0, 1, 1, 2], [1, 0, 2, 1]]})
    new = {"near": [[3, 0, 3, 3], [0, 3, 2, 3]]}  # one in both directions, one, and a loop

    grown = graph.extend({"x": np.eye(3)[:1]}, new)
    assert grown.edge_types == graph.edge_types
    assert grown.edge_index["node", "near", "node"][:, 4:].tolist() == [
        [3, 0, 3, 3, 2],
        [0, 3, 2, 3, 3],
    ]
    alone = graph.extend({"x": np.eye(3)[:1]}, new, add_reverse=False)
    assert alone.edge_index["node", "near", "node"].shape == (2, 8)


def test_reverses_have_the_weights_of_their_edges() -> None:
    graph = MultiModalGraph(
        {"x": np.eye(3)}, {"near": sparse.coo_array([[0, 2, 0], [2, 0, 0], [0, 0, 0]])}
    )
    new = {"near": sparse.coo_array(([5.0], ([3], [0])), shape=(4, 4))}
    grown = graph.extend({"x": np.eye(3)[:1]}, new)
    near = ("node", "near", "node")
    assert grown.edge_index[near].tolist() == [[0, 1, 3, 0], [1, 0, 0, 3]]
    assert grown.edge_weight[near].tolist() == [2.0, 2.0, 5.0, 5.0]


# --------------------------------------------------------------------------- predicting


@pytest.mark.parametrize("model", ["hgnn_ima", "sehgnn"])
def test_new_nodes_are_predicted_as_on_a_graph_made_anew(model: str) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=60)
    x = rng.normal(size=(60, 3)) + 3 * y[:, None]
    index = rng.integers(0, 60, size=(2, 400))
    index = index[:, y[index[0]] == y[index[1]]]
    is_old = (index < 40).all(axis=0)
    graph = MultiModalGraph({"x": x[:40]}, {"near": index[:, is_old]})
    X = graph.nodes()
    clf = MultiModalGraphClassifier(model, max_epochs=60, random_state=0).fit(X, y[:40])

    grown = graph.extend({"x": x[40:]}, {"near": index[:, ~is_old]})
    anew = MultiModalGraph(
        {"x": x}, {"near": np.concatenate([index[:, is_old], index[:, ~is_old]], axis=1)}
    )

    proba = clf.predict_proba(grown.nodes(ids=slice(40, None)))
    assert_array_equal(proba, clf.predict_proba(anew.nodes(ids=slice(40, None))))
    assert (clf.classes_[proba.argmax(axis=1)] == y[40:]).mean() > 0.8


# --------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ([1], {}, r"nodes must be a dict .*, got list\."),
        ({"film": 1}, {}, r"Node type 'film' is not in the graph\. It has \['movie', 'actor'\]"),
        ({"movie": {"sound": [[1.0]]}}, {}, "'movie' has no modality 'sound'"),
        ({"actor": {"face": [[1.0]]}}, {}, "'actor' has no modality 'face'"),
        ({"movie": {"poster": [[1.0]]}}, {}, "'poster' .* must have 2 columns, .* got 1"),
        ({"movie": {"poster": [[1.0, 2.0]], "year": [[1], [2]]}}, {}, "one row per node"),
        ({"movie": -1}, {}, "0 nodes or more"),
        ({"movie": 1}, {"edges": {STARS: [[5], [0]]}}, "movie 5, but there are 5 movies"),
        ({}, {"edges": {("movie", "by", "actor"): [[0], [0]]}}, "relations of the graph, .*'by'"),
        ({"movie": 1}, {"masks": {"movie": {"text": [True]}}}, r"gives, \[\] for .*'movie'"),
        ({"actor": 1}, {"masks": {"movie": {"text": [True]}}}, r"gives, \[\] for .*'movie'"),
        ({"movie": {"text": TEXT[:1]}}, {"masks": {"movie": {"text": [1]}}}, "mask of booleans"),
        ({"movie": 1}, {"masks": {"movie": [True]}}, "masks of node type 'movie' must be a dict"),
    ],
)
def test_what_the_graph_does_not_have_is_refused(
    graph: MultiModalGraph, nodes: Any, options: Any, message: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        graph.extend(nodes, **options)


def test_columns_in_another_order_are_refused() -> None:
    frame = pd.DataFrame({"a": [1.0], "b": [2.0]})
    graph = MultiModalGraph({"movie": {"x": frame}})
    with pytest.raises(ValueError, match=r"got 'b' where 'a' is. Select them: frame\[list\("):
        graph.extend({"movie": {"x": frame[["b", "a"]]}})

    same = frame[["b", "a"]][list(graph.feature_names["movie"]["x"])]
    assert graph.extend({"movie": {"x": same}}).x["movie"]["x"].tolist() == [[1, 2], [1, 2]]
    assert graph.extend({"movie": {"x": same.to_numpy()}}).feature_names == graph.feature_names


def test_an_infinite_new_value_is_found(graph: MultiModalGraph) -> None:
    assert graph.present("movie", "poster").sum() == 3
    grown = graph.extend({"movie": {"poster": [[np.inf, 0.0]]}})
    with pytest.raises(ValueError, match="infinite value in row 4"):
        grown.present("movie", "poster")
