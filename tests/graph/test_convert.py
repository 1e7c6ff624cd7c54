from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from torch_geometric.data import Data

from skmmg.graph import MultiModalGraph
from skmmg.graph._convert import (
    from_hetero_data,
    from_networkx,
    from_pandas,
    to_hetero_data,
    to_networkx,
)

nx = pytest.importorskip("networkx")
STARS = ("movie", "stars", "actor")


def make_graph(add_reverse: bool = True) -> MultiModalGraph:
    """Two node types with features and one without; repeats, loops, weights, masks, names."""
    poster = np.array([[0.5, 1.5], [np.nan, np.nan], [2.5, 0.0]], dtype=np.float32)
    text = sparse.csr_array(np.array([[0, 2, 0], [1, 0, 0], [0, 0, 0]], dtype=np.int32))
    table = pd.DataFrame({"year": [1999, 2004, 2010], "length": [90, 120, 100]})
    weights = sparse.coo_array(([0.5, 0.5, 2.0], ([2, 2, 0], [1, 1, 0])), (3, 2))
    return MultiModalGraph(
        {
            "movie": {"poster": poster, "text": text, "table": table},
            "director": {"photo": np.ones((2, 2), dtype=np.float16)},
            "actor": 4,
        },
        {
            STARS: [[2, 0, 0, 1], [3, 1, 1, 0]],
            ("movie", "made_by", "director"): weights,
            ("movie", "follows", "movie"): [[1, 0], [1, 2]],
            ("actor", "wrote", "movie"): np.empty((2, 0), dtype=int),
        },
        masks={"movie": {"text": [True, True, False], "poster": [False, True, True]}},
        add_reverse=add_reverse,
    )


def dense(matrix: Any) -> Any:
    return matrix.toarray() if sparse.issparse(matrix) else matrix


def assert_same_graph(graph: MultiModalGraph, expected: MultiModalGraph) -> None:
    """Compare everything that a graph holds, orders and dtypes included."""
    assert graph.schema == expected.schema
    assert dict(graph.n_nodes) == dict(expected.n_nodes)
    assert graph.edge_types == expected.edge_types
    for node_type, features in expected.x.items():
        assert list(graph.x[node_type]) == list(features)
        for modality, matrix in features.items():
            found = graph.x[node_type][modality]
            assert sparse.issparse(found) == sparse.issparse(matrix)
            assert found.dtype == matrix.dtype
            np.testing.assert_array_equal(dense(found), dense(matrix))
            np.testing.assert_array_equal(
                graph.present(node_type, modality), expected.present(node_type, modality)
            )
    assert flat(graph.masks) == flat(expected.masks)
    assert flat(graph.feature_names) == flat(expected.feature_names)
    for edge_type, pairs in expected.edge_index.items():
        np.testing.assert_array_equal(graph.edge_index[edge_type], pairs)
    assert set(graph.edge_weight) == set(expected.edge_weight)
    for edge_type, weights in expected.edge_weight.items():
        np.testing.assert_array_equal(graph.edge_weight[edge_type], weights)


def flat(values: Any) -> dict[tuple[str, str], list[Any]]:
    return {(t, m): list(given) for t, found in values.items() for m, given in found.items()}


# ------------------------------------------------------------------------------- PyTorch Geometric


@pytest.fixture(scope="module")
def hetero_data() -> type[Any]:
    from torch_geometric.data import HeteroData

    return HeteroData


@pytest.mark.parametrize("add_reverse", [True, False])
def test_a_graph_comes_back_from_hetero_data_as_it_was(
    add_reverse: bool, hetero_data: type[Any]
) -> None:
    graph = make_graph(add_reverse)
    data = to_hetero_data(graph)
    assert isinstance(data, hetero_data)
    assert data.validate()
    assert_same_graph(from_hetero_data(data, add_reverse=add_reverse), graph)


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint8, np.int16, np.int32, np.int64, np.float32, np.float64]
)
def test_dtypes_survive_the_way_through_hetero_data(dtype: Any) -> None:
    matrix = np.eye(3, 4).astype(dtype)
    graph = MultiModalGraph({"a": matrix, "b": sparse.csr_array(matrix)})
    assert_same_graph(from_hetero_data(to_hetero_data(graph)), graph)


@given(
    n_nodes=st.integers(1, 6),
    n_edges=st.integers(0, 12),
    is_weighted=st.booleans(),
    seed=st.integers(0, 9),
)
def test_edges_survive_the_way_through_hetero_data_in_their_order(
    n_nodes: int, n_edges: int, is_weighted: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    pairs = rng.integers(0, n_nodes, size=(2, n_edges))
    weights = rng.choice([0.25, 1.0, 3.0], size=n_edges) if is_weighted else np.ones(n_edges)
    edges = sparse.coo_array((weights, tuple(pairs)), (n_nodes, n_nodes))
    graph = MultiModalGraph({"node": n_nodes}, {"to": edges})
    assert_same_graph(from_hetero_data(to_hetero_data(graph)), graph)


def test_to_hetero_data_sets_num_nodes_and_keeps_sparse_text_sparse() -> None:
    data = to_hetero_data(make_graph())
    assert {t: data[t].num_nodes for t in data.node_types} == {
        "movie": 3,
        "director": 2,
        "actor": 4,
    }
    assert data["movie"].text.layout == torch.sparse_csr
    assert data["movie", "made_by", "director"].edge_weight.tolist() == [0.5, 0.5, 2.0]
    assert "edge_weight" not in data[STARS]


def test_changing_the_hetero_data_does_not_change_the_graph() -> None:
    graph = make_graph()
    data = to_hetero_data(graph)
    data["movie"].poster.zero_()
    data["movie"].text.values().zero_()
    data[STARS].edge_index.zero_()
    assert_same_graph(graph, make_graph())


def test_features_are_told_from_labels_and_masks_by_shape_and_name(hetero_data: type[Any]) -> None:
    data = hetero_data()
    data["movie"].x = torch.ones(3, 2)
    data["movie"].text = torch.ones(3, 4, dtype=torch.long)
    data["movie"].y = torch.ones(3, 2)
    data["movie"].train_mask = torch.ones(3, 10, dtype=torch.bool)
    data["movie"].year = torch.ones(3)
    data["movie"].clip = torch.ones(3, 2, 2)
    data["movie"].other = torch.ones(5, 2)
    data["movie"].title = ["a", "b", "c"]
    graph = from_hetero_data(data)
    assert graph.schema.to_dict()["node_types"] == {"movie": {"x": 2, "text": 4}}


def test_the_modalities_asked_for_are_read_and_no_others(hetero_data: type[Any]) -> None:
    data = hetero_data()
    data["movie"].x = torch.ones(3, 2)
    data["movie"].label = torch.ones(3, 4)
    data["actor"].x = torch.ones(5, 2)
    chosen = from_hetero_data(data, {"movie": ["label"]})
    assert chosen.schema.to_dict()["node_types"] == {"movie": {"label": 4}, "actor": {}}
    assert dict(chosen.n_nodes) == {"movie": 3, "actor": 5}
    everywhere = from_hetero_data(data, ["x"])
    assert everywhere.schema.to_dict()["node_types"] == {"movie": {"x": 2}, "actor": {"x": 2}}


@pytest.mark.parametrize("layout", ["coo", "uncoalesced", "csr", "csc"])
def test_sparse_tensors_of_every_layout_stay_sparse(layout: str, hetero_data: type[Any]) -> None:
    matrix = torch.tensor([[0.0, 2.0], [3.0, 0.0], [0.0, 0.0]])
    uncoalesced = torch.sparse_coo_tensor(
        torch.tensor([[0, 0, 1], [1, 1, 0]]),
        torch.tensor([1.0, 1.0, 3.0]),
        (3, 2),
        check_invariants=True,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that PyTorch's sparse layouts are in beta
        tensor = {
            "coo": matrix.to_sparse,
            "uncoalesced": lambda: uncoalesced,
            "csr": matrix.to_sparse_csr,
            "csc": matrix.to_sparse_csc,
        }[layout]()
    data = hetero_data()
    data["movie"].x = tensor
    found = from_hetero_data(data).x["movie"]["x"]
    assert isinstance(found, sparse.csr_array)
    np.testing.assert_array_equal(found.toarray(), matrix)


def test_half_precision_that_numpy_or_scipy_lacks_becomes_single_precision(
    hetero_data: type[Any],
) -> None:
    data = hetero_data()
    data["movie"].x = torch.ones(3, 2, dtype=torch.bfloat16)
    data["movie"].text = torch.sparse_coo_tensor(
        torch.tensor([[0], [1]]), torch.ones(1).half(), (3, 2), check_invariants=True
    )
    features = from_hetero_data(data).x["movie"]
    assert {name: matrix.dtype for name, matrix in features.items()} == {
        "x": np.float32,
        "text": np.float32,
    }


def test_features_with_gradients_are_detached(hetero_data: type[Any]) -> None:
    data = hetero_data()
    data["movie"].x = torch.ones(3, 2, requires_grad=True)
    assert from_hetero_data(data).x["movie"]["x"].sum() == 6


@pytest.mark.parametrize("name", ["edge_weight", "edge_attr"])
@pytest.mark.parametrize("shape", [(2,), (2, 1)])
def test_one_number_per_edge_is_a_weight(
    name: str, shape: tuple[int, ...], hetero_data: type[Any]
) -> None:
    data = hetero_data()
    data["movie"].num_nodes = 3
    data["movie", "like", "movie"].edge_index = torch.tensor([[0, 0], [1, 1]])
    data["movie", "like", "movie"][name] = torch.tensor([0.5, 2.0]).reshape(shape)
    graph = from_hetero_data(data)
    assert graph.edge_weight["movie", "like", "movie"].tolist() == [0.5, 2.0]


def test_several_numbers_per_edge_are_an_error_unless_there_is_a_weight(
    hetero_data: type[Any],
) -> None:
    data = hetero_data()
    data["movie"].num_nodes = 3
    data["movie", "like", "movie"].edge_index = torch.tensor([[0, 0], [1, 1]])
    data["movie", "like", "movie"].edge_attr = torch.ones(2, 5)
    with pytest.raises(ValueError, match=r"one number per edge.* got shape \(2, 5\).*edge_weight"):
        from_hetero_data(data)
    data["movie", "like", "movie"].edge_weight = torch.tensor([0.5, 2.0])
    assert from_hetero_data(data).edge_weight["movie", "like", "movie"].tolist() == [0.5, 2.0]


def test_data_of_one_node_type_raises_and_names_the_way() -> None:
    data = Data(x=torch.ones(3, 2), edge_index=torch.tensor([[0, 1], [1, 2]]))
    with pytest.raises(TypeError, match=r"got Data\. .* data\.to_heterogeneous\(\)"):
        MultiModalGraph.from_hetero_data(data)
    assert MultiModalGraph.from_hetero_data(data.to_heterogeneous()).n_nodes == {"0": 3}


def test_reading_does_not_change_the_hetero_data(hetero_data: type[Any]) -> None:
    data = hetero_data()
    data["movie"].x = torch.ones(3, 2)
    data["movie", "by", "director"].edge_index = torch.tensor([[0], [0]])
    with pytest.raises(ValueError, match=r"type 'director' .* Set data\['director'\].num_nodes"):
        from_hetero_data(data)
    assert data.node_types == ["movie"]


LIKE = ("movie", "like", "movie")
BROKEN: dict[str, dict[Any, dict[str, torch.Tensor]]] = {
    "no count": {"actor": {"y": torch.ones(3)}},
    "two counts": {"actor": {"text": torch.ones(3, 2), "photo": torch.ones(4, 2)}},
    "rows": {"movie": {"num_nodes": torch.tensor(4)}},
    "no edges": {LIKE: {"edge_attr": torch.ones(3, 2)}},
    "range": {LIKE: {"edge_index": torch.tensor([[0], [3]])}},
    "range, weighted": {
        LIKE: {"edge_index": torch.tensor([[0], [3]]), "edge_weight": torch.tensor([0.5])}
    },
    "weights": {
        LIKE: {"edge_index": torch.tensor([[0], [1]]), "edge_weight": torch.tensor([0.5, 0.5])}
    },
    "ids": {LIKE: {"edge_index": torch.ones(2, 1), "edge_weight": torch.tensor([0.5])}},
}


def make_broken(hetero_data: type[Any], what: str | None = None) -> Any:
    data = hetero_data()
    data["movie"].x = torch.ones(3, 2)
    for key, store in BROKEN.get(what or "", {}).items():
        for name, value in store.items():
            data[key][name] = value
    return data


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("no count", ValueError, r"nodes of type 'actor' must be given .*got features with \{\}"),
        ("two counts", ValueError, r"'actor' must be given .*\{'text': 3, 'photo': 4\}"),
        ("rows", ValueError, r"'movie' must have one row per node, 4, got \{'x': 3\}"),
        ("no edges", ValueError, "must have an edge_index, got \\['edge_attr'\\]"),
        ("range", ValueError, "refers to movie 3, but there are 3 movies"),
        ("range, weighted", ValueError, "refers to movie 3, but there are 3 movies"),
        ("weights", ValueError, "must have one weight per edge, got 2 weights"),
        ("ids", TypeError, "must have integer ids, got dtype float32"),
    ],
)
def test_hetero_data_that_is_no_graph_raises(
    what: str, error: type[Exception], message: str, hetero_data: type[Any]
) -> None:
    with pytest.raises(error, match=message):
        from_hetero_data(make_broken(hetero_data, what))


@pytest.mark.parametrize(
    ("modalities", "message"),
    [
        (["sound"], r"tensors of the data, got 'sound'. There are \['x'\]"),
        ({"movie": ["sound"]}, r"tensors of node type 'movie', got 'sound'. There are \['x'\]"),
        ({"film": ["x"]}, r"node types of the data, got 'film'. There are \['movie'\]"),
    ],
)
def test_modalities_that_are_not_in_the_hetero_data_raise(
    modalities: Any, message: str, hetero_data: type[Any]
) -> None:
    with pytest.raises(ValueError, match=message):
        from_hetero_data(make_broken(hetero_data), modalities)


@pytest.mark.parametrize("name", ["y", "num_nodes", "train_mask"])
def test_a_modality_whose_name_pyg_uses_cannot_be_written(name: str) -> None:
    with pytest.raises(ValueError, match=f"Modality '{name}' .* Rename it"):
        to_hetero_data(MultiModalGraph({name: np.ones((2, 2))}))


# ------------------------------------------------------------------------------------------ pandas

MOVIES = pd.DataFrame(
    {
        "id": ["m9", "m2", "m5"],
        "title": ["a", "b", "c"],
        "img_0": [0.5, np.nan, 1.5],
        "img_1": [1.0, np.nan, 2.0],
        "year": [1999, 2004, 2010],
    }
)
ACTORS = pd.DataFrame({"id": [7, 3], "name": ["x", "y"]})
ROLES = pd.DataFrame({"movie": ["m5", "m9", "m5"], "actor": [3, 7, 3], "weight": [0.5, 1.0, 2.0]})


def test_ids_of_any_kind_become_positions_of_rows() -> None:
    graph = from_pandas({"movie": MOVIES, "actor": ACTORS}, {STARS: ROLES})
    assert graph.edge_index[STARS].tolist() == [[2, 0, 2], [1, 0, 1]]
    assert graph.edge_types == (STARS, ("actor", "rev_stars", "movie"))
    assert dict(graph.n_nodes) == {"movie": 3, "actor": 2}


def test_numeric_columns_are_one_modality_unless_modalities_say_otherwise() -> None:
    graph = from_pandas({"movie": MOVIES, "actor": ACTORS})
    assert graph.feature_names["movie"]["x"] == ("img_0", "img_1", "year")
    assert not graph.x["actor"]
    chosen = from_pandas(
        {"movie": MOVIES, "actor": ACTORS},
        modalities={"movie": {"image": "img_", "table": ["year"]}},
    )
    assert chosen.x["movie"]["table"].dtype == np.int64
    assert chosen.present("movie", "image").tolist() == [True, False, True]
    assert not from_pandas({"movie": MOVIES}, modalities={"movie": {}}).x["movie"]


def test_edge_columns_are_found_by_type_name_or_else_by_position() -> None:
    nodes = {"movie": MOVIES, "actor": ACTORS}
    named = from_pandas(nodes, {STARS: ROLES[["weight", "actor", "movie"]]})
    first = from_pandas(nodes, {STARS: ROLES.rename(columns={"movie": "m", "actor": "a"})})
    assert named.edge_index[STARS].tolist() == first.edge_index[STARS].tolist()


def test_a_relation_of_a_type_onto_itself_takes_the_first_two_columns() -> None:
    links = pd.DataFrame({"from": ["m2", "m5"], "to": ["m9", "m5"]})
    graph = from_pandas({"movie": MOVIES}, {"follows": links})
    assert graph.edge_index["movie", "follows", "movie"].tolist() == [[1, 2], [0, 2]]


def test_a_weight_column_is_no_column_of_ids() -> None:
    links = pd.DataFrame({"from": ["m2", "m5"], "w": [0.5, 2.0], "to": ["m9", "m5"]})
    graph = from_pandas({"movie": MOVIES}, {"follows": links}, weight_column="w")
    assert graph.edge_index["movie", "follows", "movie"].tolist() == [[1, 2], [0, 2]]
    assert graph.edge_weight["movie", "follows", "movie"].tolist() == [0.5, 2.0]


@pytest.mark.parametrize("columns", [[4], slice(4, None), MOVIES.columns == "year", "y", ["year"]])
def test_positions_and_masks_of_columns_count_the_ids(columns: Any) -> None:
    graph = from_pandas({"movie": MOVIES}, modalities={"movie": {"table": columns}})
    assert graph.feature_names["movie"] == {"table": ("year",)}


def test_a_prefix_leaves_out_the_ids() -> None:
    graph = from_pandas({"movie": MOVIES}, modalities={"movie": {"image": "i"}})
    assert graph.feature_names["movie"] == {"image": ("img_0", "img_1")}


def test_a_weight_column_becomes_edge_weights() -> None:
    graph = from_pandas({"movie": MOVIES, "actor": ACTORS}, {STARS: ROLES}, weight_column="weight")
    assert graph.edge_weight[STARS].tolist() == [0.5, 1.0, 2.0]
    assert graph.edge_index[STARS].tolist() == [[2, 0, 2], [1, 0, 1]]


def test_each_relation_may_have_a_weight_column_or_none() -> None:
    links = pd.DataFrame({"a": MOVIES["id"], "b": MOVIES["id"], "score": 2.0})[:2]
    like = ("movie", "like", "movie")
    nodes, edges = {"movie": MOVIES, "actor": ACTORS}, {STARS: ROLES, like: links}

    graph = from_pandas(nodes, edges, weight_column={like: "score"})

    assert graph.edge_weight[like].tolist() == [2.0, 2.0]
    assert STARS not in graph.edge_weight
    assert from_pandas(nodes, edges, weight_column={}).edge_weight == {}
    with pytest.raises(ValueError, match=r"weight_column must name relations of .*, got"):
        from_pandas(nodes, edges, weight_column={("actor", "like", "actor"): "score"})


def test_ids_may_be_in_a_named_index_or_in_columns_of_other_names() -> None:
    nodes = {"movie": MOVIES.set_index("id"), "actor": ACTORS.rename(columns={"id": "key"})}
    graph = from_pandas(nodes, {STARS: ROLES}, id_column={"movie": "id", "actor": "key"})
    assert graph.edge_index[STARS].tolist() == [[2, 0, 2], [1, 0, 1]]
    assert "actor" in graph.n_nodes
    assert not graph.x["actor"]


def test_an_empty_edge_table_gives_a_relation_without_edges() -> None:
    graph = from_pandas({"movie": MOVIES, "actor": ACTORS}, {STARS: ROLES[:0]})
    assert graph.edge_index[STARS].shape == (2, 0)


def test_unknown_ids_are_counted_and_the_first_few_named() -> None:
    roles = pd.DataFrame({"movie": ["m9", "q1", "q2", "q1", "q3", "q4"], "actor": [3] * 6})
    message = (
        r"\('movie', 'stars', 'actor'\) refers to 4 ids that the table of 'movie' does not have, "
        r"in 5 of 6 edges: 'q1', 'q2', 'q3', \.\.\.\. Add these nodes, or drop these edges"
    )
    with pytest.raises(ValueError, match=message):
        from_pandas({"movie": MOVIES, "actor": ACTORS}, {STARS: roles})


def test_ids_of_another_dtype_or_missing_are_unknown_and_the_message_shows_the_dtypes() -> None:
    for actors in (["3", "7", "7"], [3, None, 7]):
        with pytest.raises(ValueError, match=r"'actor' does not have, .* here, int64 there\)"):
            from_pandas({"movie": MOVIES, "actor": ACTORS}, {STARS: ROLES.assign(actor=actors)})


@pytest.mark.parametrize(
    ("nodes", "keywords", "message"),
    [
        ({"movie": pd.concat([MOVIES, MOVIES])}, {}, "3 ids of 'movie' are repeated: 'm9', 'm2'"),
        ({"movie": MOVIES.assign(id=["a", None, "b"])}, {}, "'id' is missing in 1 of 3 rows"),
        ({"movie": MOVIES}, {"id_column": "key"}, "in a column 'key', got the columns"),
        ({"movie": MOVIES}, {"id_column": {}}, "got none for 'movie'"),
        ({"movie": MOVIES}, {"modalities": {"film": {}}}, "node types of .* got 'film'"),
        (
            {"movie": MOVIES},
            {"modalities": {"movie": {"image": "pic_"}}},
            "node type 'movie': Modality 'image' must have at least one column",
        ),
        (
            {"movie": MOVIES},
            {"edges": {"to": MOVIES[["id"]]}},
            "must have two columns of ids, got the columns",
        ),
        (
            {"movie": MOVIES},
            {"edges": {"to": MOVIES[["id", "id"]]}, "weight_column": "w"},
            "two columns of ids and the column 'w'",
        ),
        (
            {"movie": MOVIES[["id", "id"]]},
            {},
            "The table of 'movie' must have one column 'id', got 2",
        ),
        (
            {"movie": MOVIES[["id", "year", "year"]]},
            {"modalities": {"movie": {"table": ["year"]}}},
            "names the column 'year', which X has 2 times",
        ),
        (
            {"movie": MOVIES},
            {"edges": {"to": MOVIES[["id", "id"]]}},
            r"edge type \('movie', 'to', 'movie'\) must have one column 'id', got 2",
        ),
        (
            {"movie": MOVIES, "actor": ACTORS},
            {"edges": {STARS: ROLES.assign(weight=["1", "b", "2"])}, "weight_column": "weight"},
            r"edge type \('movie', 'stars', 'actor'\) must have numbers in the column 'weight'",
        ),
    ],
)
def test_tables_that_are_no_graph_raise(nodes: Any, keywords: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_pandas(nodes, **keywords)


def test_what_is_no_table_raises() -> None:
    with pytest.raises(TypeError, match=r"nodes\['movie'\] must be a pandas DataFrame, got int"):
        from_pandas({"movie": 3})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="nodes must map names to DataFrames"):
        from_pandas(MOVIES)
    with pytest.raises(ValueError, match="must join node types of the graph"):
        from_pandas({"movie": MOVIES}, {STARS: ROLES})
    with pytest.raises(TypeError, match="'title' of dtype"):
        from_pandas({"movie": MOVIES}, modalities={"movie": {"text": ["title"]}})


# ---------------------------------------------------------------------------------------- networkx


def test_a_graph_comes_back_from_networkx_but_for_the_order_of_edges() -> None:
    graph = make_graph()
    back = from_networkx(to_networkx(graph), features=["poster", "text", "table", "photo"])
    assert dict(back.n_nodes) == dict(graph.n_nodes)
    lost = set(graph.edge_types) - set(back.edge_types)
    assert lost == {("actor", "wrote", "movie"), ("movie", "rev_wrote", "actor")}
    for edge_type in back.edge_types:
        assert weighted(back, edge_type) == weighted(graph, edge_type)
    for node_type, features in graph.x.items():
        assert set(back.x[node_type]) == set(features)
        for modality, matrix in features.items():
            present = graph.present(node_type, modality)
            found = back.x[node_type][modality]
            assert found.dtype == matrix.dtype
            assert sparse.issparse(found) == sparse.issparse(matrix)
            np.testing.assert_array_equal(back.present(node_type, modality), present)
            np.testing.assert_array_equal(dense(found)[present], dense(matrix)[present])


def weighted(graph: MultiModalGraph, edge_type: Any) -> list[Any]:
    """Edges with their weights, sorted."""
    pairs = graph.edge_index[edge_type]
    weights = graph.edge_weight.get(edge_type, np.ones(pairs.shape[1]))
    return sorted(zip(*pairs.tolist(), weights.tolist(), strict=True))


def test_to_networkx_names_nodes_by_type_and_id() -> None:
    g = to_networkx(make_graph())
    assert isinstance(g, nx.MultiDiGraph)
    assert g.nodes["movie", 0]["type"] == "movie"
    assert "poster" not in g.nodes["movie", 1]
    np.testing.assert_array_equal(g.nodes["movie", 2]["poster"], [2.5, 0.0])
    assert g.number_of_edges(("movie", 0), ("actor", 1)) == 2


def test_edges_of_an_undirected_graph_go_both_ways() -> None:
    g = nx.karate_club_graph()
    graph = from_networkx(g, node_type=None, edge_type=None)
    assert graph.edge_types == (("node", "to", "node"),)
    assert graph.edge_index["node", "to", "node"].shape == (2, 2 * g.number_of_edges())
    assert graph.edge_weight["node", "to", "node"].sum() == 2 * g.size(weight="weight")


def test_a_loop_of_an_undirected_graph_is_one_edge() -> None:
    graph = from_networkx(nx.Graph([(0, 0), (0, 1)]), None, None)
    assert sorted(graph.edge_index["node", "to", "node"].T.tolist()) == [[0, 0], [0, 1], [1, 0]]


def test_undirected_edges_between_types_start_at_the_type_that_comes_first() -> None:
    g = nx.Graph()
    g.add_nodes_from(["a", "b"], type="movie")
    g.add_nodes_from(["x", "y"], type="actor")
    g.add_edge("x", "b", type="stars")
    g.add_edge("a", "y", type="stars")
    graph = from_networkx(g)
    assert graph.edge_types == (STARS, ("actor", "rev_stars", "movie"))
    assert sorted(graph.edge_index[STARS].T.tolist()) == [[0, 1], [1, 0]]


def test_node_attributes_become_modalities_and_absent_ones_are_missing() -> None:
    g = nx.DiGraph()
    g.add_node("a", vec=[1, 2], score=0.5)
    g.add_node("b", vec=[3, 4])
    g.add_node("c", score=2.5)
    graph = from_networkx(g, None, None, {"image": "vec", "table": "score"})
    assert graph.present("node", "image").tolist() == [True, True, False]
    assert graph.x["node"]["image"].dtype == np.int64
    np.testing.assert_array_equal(graph.x["node"]["table"], [[0.5], [np.nan], [2.5]])


def test_an_edge_without_weight_among_weighted_ones_weighs_one() -> None:
    g = nx.MultiDiGraph()
    g.add_edge(0, 1, weight=0.5)
    g.add_edge(0, 1)
    graph = from_networkx(g, None, None)
    assert graph.edge_weight["node", "to", "node"].tolist() == [0.5, 1.0]
    assert not from_networkx(g, None, None, weight=None).edge_weight


def test_a_single_attribute_may_be_named_by_itself() -> None:
    g = nx.path_graph(2)
    nx.set_node_attributes(g, 1.0, "poster")
    assert from_networkx(g, None, None, "poster").schema.node_types == {"node": {"poster": 1}}


def test_an_attribute_that_no_node_has_raises() -> None:
    g = nx.path_graph(2)
    nx.set_node_attributes(g, {0: 1.0}, "poster")
    nx.set_node_attributes(g, None, "text")
    for features in (["poster", "text"], {"image": "text"}):
        with pytest.raises(ValueError, match=r"of nodes, got 'text'. There are \['poster'\]"):
            from_networkx(g, None, None, features)


def test_sparse_attributes_of_several_rows_raise() -> None:
    g = nx.path_graph(3)
    nx.set_node_attributes(g, sparse.csr_array(np.ones((2, 3))), "words")
    with pytest.raises(ValueError, match=r"'words' must have one row .* of shape \(2, 3\)"):
        from_networkx(g, None, None, ["words"])


@pytest.mark.parametrize("wrong", ["x", [1, 2]])
def test_weights_of_networkx_that_are_no_numbers_raise(wrong: Any) -> None:
    g = nx.DiGraph()
    g.add_edge("a", "b", weight=wrong)
    with pytest.raises(ValueError, match=r"Edge \('a', 'to', 'b'\) must have a number .*'weight'"):
        from_networkx(g, None, None)


def untyped(what: str) -> Any:
    g = nx.DiGraph()
    g.add_node("a", type="movie", vec=[1.0])
    g.add_node("b", type="movie", vec=[1.0, 2.0])
    g.add_edge("a", "b", type="to")
    if what == "node":
        del g.nodes["a"]["type"]
    if what == "edge":
        del g.edges["a", "b"]["type"]
    return g


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("node", "Node 'a' must have its type in the attribute 'type'.* or node_type=None"),
        ("edge", r"Edge \('a', 'b'\) must have its type .* or edge_type=None"),
        ("length", r"'vec' must have one length .* 'movie', got shape \(2,\) for node 'b'"),
    ],
)
def test_networkx_graphs_without_types_or_with_ragged_rows_raise(what: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_networkx(untyped(what), features=["vec"] if what == "length" else None)


def test_a_modality_called_type_cannot_be_written_to_networkx() -> None:
    with pytest.raises(ValueError, match=r"Modality 'type' .* Rename it"):
        to_networkx(MultiModalGraph({"type": np.ones((2, 2))}))
