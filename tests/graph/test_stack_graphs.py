"""Graphs stacked into one: nothing is lost, nothing is joined, and a slice selects graphs."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from numpy.testing import assert_array_equal

from skmmg import KNNGraph, MultiModalGraph, RadiusGraph, stack_graphs

NEAR, HEARD = ("channel", "near", "channel"), ("channel", "heard_in", "segment")


def draw(seed: int, n_channels: int = 4, n_segments: int = 3, **changes: Any) -> MultiModalGraph:
    rng = np.random.default_rng(seed)
    nodes = {
        "channel": {"eeg": rng.normal(size=(n_channels, 5))},
        "segment": {"audio": sp.random_array((n_segments, 7), density=0.5, rng=rng)},
    }
    chain = np.arange(n_channels - 1)
    weight = sp.csr_array((rng.random(3), (rng.integers(n_channels, size=3), [0] * 3)))
    weight.resize((n_channels, n_segments))
    edges = {NEAR: np.stack([chain, chain + 1]), HEARD: weight}
    return MultiModalGraph(changes.get("nodes", nodes), changes.get("edges", edges))


def test_every_node_edge_and_weight_of_every_graph_is_there() -> None:
    graphs = [draw(0), draw(1, 6, 2), draw(2, 3, 5)]

    X = stack_graphs(graphs, name="recording")
    part = X.graph

    assert (len(X), X.node_type) == (3, "recording")
    for node_type, ends in {"channel": (4, 10), "segment": (3, 5)}.items():
        (modality,) = part.x[node_type]
        for graph, rows in zip(graphs, np.split(np.arange(13), ends), strict=False):
            rows = rows[: graph.n_nodes[node_type]]
            stacked, own = part.x[node_type][modality], graph.x[node_type][modality]
            assert_array_equal(_dense(stacked)[rows], _dense(own))
    for edge_type in graphs[0].edge_types:
        src, dst = (np.array([0, 4, 10]), np.array([0, 3, 5]))
        starts = {"channel": src, "segment": dst}
        for i, graph in enumerate(graphs):
            shift = np.array([[starts[edge_type[0]][i]], [starts[edge_type[2]][i]]])
            wanted = {tuple(pair) for pair in (graph.edge_index[edge_type] + shift).T}
            assert wanted <= {tuple(pair) for pair in part.edge_index[edge_type].T}
        assert part.edge_index[edge_type].shape[1] == sum(
            g.edge_index[edge_type].shape[1] for g in graphs
        )
    assert_array_equal(
        part.edge_weight[HEARD], np.concatenate([g.edge_weight[HEARD] for g in graphs])
    )
    assert_array_equal(
        part.edge_index["channel", "in", "recording"][1], [0] * 4 + [1] * 6 + [2] * 3
    )


def _dense(x: Any) -> np.ndarray:
    return x.toarray() if sp.issparse(x) else x


def test_it_is_a_graph_like_any_other() -> None:
    X = stack_graphs([draw(0), draw(1)])

    loaded = pickle.loads(pickle.dumps(X[[1]]))

    assert (len(loaded), loaded.shape) == (1, (1,))
    assert loaded.schema.diff(X.schema) == []
    with pytest.raises(ValueError, match="read-only"):
        X.graph.edge_index[NEAR][0, 0] = 1


def test_masks_and_rows_of_nan_say_what_is_missing() -> None:
    first = MultiModalGraph({"word": {"x": np.array([[1.0], [np.nan]])}})
    second = MultiModalGraph({"word": {"x": np.ones((2, 1))}}, masks={"word": {"x": [False, True]}})

    graph = stack_graphs([first, second]).graph

    assert_array_equal(graph.present("word", "x"), [True, False, False, True])


def test_nodes_that_look_alike_are_linked_within_their_graph_only() -> None:
    x = np.array([[0.0, 1.0], [0.0, 2.0], [1.0, 0.0], [2.0, 0.0]])
    graphs = [MultiModalGraph({"word": {"x": rows}}) for rows in (x, x[:3])]

    graph = stack_graphs(graphs, neighbors=KNNGraph(2)).graph

    src, dst = graph.edge_index["word", "knn_x", "word"]
    assert set(zip(src[dst < 4], dst[dst < 4], strict=True)) == {
        (0, 0), (1, 0), (0, 1), (1, 1), (2, 2), (3, 2), (2, 3), (3, 3),
    }  # fmt: skip
    assert_array_equal(src >= 4, dst >= 4)


@pytest.mark.parametrize(("name", "spec"), [("knn", KNNGraph()), ("radius", RadiusGraph())])
def test_neighbors_have_the_names_that_the_estimators_know(name: str, spec: Any) -> None:
    graphs = [MultiModalGraph({"word": {"x": np.eye(4)}})] * 2

    named, given = (stack_graphs(graphs, neighbors=n).graph.edge_index for n in (name, spec))

    edge_type = ("word", f"{name}_x", "word")
    assert_array_equal(named[edge_type], given[edge_type])


def test_neighbors_do_not_replace_a_relation_of_the_graphs() -> None:
    graph = MultiModalGraph({"word": {"x": np.eye(5)}}, {"knn_x": [[0], [4]]})

    with pytest.raises(ValueError, match=r"the graphs have \('word', 'knn_x', 'word'\) already"):
        stack_graphs([graph], neighbors=KNNGraph(2))


def draw_silent(seed: int) -> MultiModalGraph:
    """A recording without segments."""
    edges = {NEAR: np.array([[0], [1]]), HEARD: np.zeros((2, 0), dtype=int)}
    rows = np.random.default_rng(seed).normal(size=(2, 5))
    return draw(
        seed, nodes={"channel": {"eeg": rows}, "segment": {"audio": np.zeros((0, 7))}}, edges=edges
    )


def test_a_graph_may_have_no_nodes_of_a_type() -> None:
    assert stack_graphs([draw(0), draw_silent(1)]).graph.n_nodes["segment"] == 3


@pytest.mark.parametrize("combine", ["separate", "union", "concat"])
def test_graphs_without_nodes_of_a_type_have_the_relations_of_neighbors(combine: str) -> None:
    neighbors = KNNGraph(2, combine=combine)

    X, alone = (
        stack_graphs(graphs, neighbors=neighbors)
        for graphs in ([draw(0), draw_silent(1)], [draw_silent(1)])
    )

    assert X.schema.diff(alone.schema) == []
    (relation,) = {e for e in alone.schema.edge_types if e[0] == e[2] == "segment"}
    assert alone.graph.edge_index[relation].shape == (2, 0)


def test_half_precision_stacks_with_sparse_matrices() -> None:
    rows = np.ones((2, 3), dtype=np.float16)

    graph = stack_graphs([MultiModalGraph({"x": x}) for x in (rows, sp.csr_array(np.ones((2, 3))))])

    assert_array_equal(_dense(graph.graph.x["node"]["x"]), np.ones((4, 3)))


def name_columns(*names: str) -> MultiModalGraph:
    return MultiModalGraph({"word": {"x": pd.DataFrame(np.ones((2, 2)), columns=names or None)}})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (name_columns("b", "a"), "x: column 0 'a' -> 'b', columns in another order"),
        (name_columns("a", "c"), "x: column 1 'b' -> 'c', other columns"),
    ],
)
def test_graphs_whose_columns_differ_are_not_stacked(other: MultiModalGraph, message: str) -> None:
    for graphs in (
        [name_columns("a", "b"), other],
        [name_columns(), name_columns("a", "b"), other],
    ):
        with pytest.raises(
            ValueError, match=rf"Graph {len(graphs) - 1} has other col.*\n.*{message}"
        ):
            stack_graphs(graphs)


def test_columns_have_the_names_that_any_graph_gives_them() -> None:
    for graphs in (
        [name_columns("a", "b"), name_columns()],
        [name_columns(), name_columns("a", "b")],
    ):
        assert stack_graphs(graphs).graph.feature_names["word"] == {"x": ("a", "b")}


@pytest.mark.parametrize(
    ("graphs", "options", "error", "message"),
    [
        ([], {}, ValueError, "at least one graph, got none"),
        ([draw(0), 3], {}, TypeError, "each a MultiModalGraph, got int"),
        ([draw(0)], {"neighbors": "ball"}, TypeError, r"one of \['knn', 'radius'\].* got 'ball'\."),
        ([draw(0)], {"neighbors": KNNGraph}, TypeError, r"Write KNNGraph\(n_neighbors=5\)"),
        ([draw(0)], {"name": "segment"}, ValueError, "is a node type of the graphs already"),
        (
            [draw(0), MultiModalGraph({"channel": {"eeg": np.ones((2, 5))}})],
            {},
            ValueError,
            "Graphs 0 and 1 differ:\n- node type 'segment'",
        ),
    ],
)
def test_what_cannot_be_stacked_is_named(
    graphs: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        stack_graphs(graphs, **options)
