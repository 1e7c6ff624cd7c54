"""Untrusted input becomes a graph, or an error that says what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from skmmg.graph import MultiModalGraph

EYE = np.eye(3)
STARS = ("movie", "stars", "actor")


def make_stars(edges: Any, n_actors: int = 2) -> MultiModalGraph:
    return MultiModalGraph({"movie": {"text": EYE}, "actor": n_actors}, {STARS: edges})


# ------------------------------------------------------------------------------------- features


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint8", "int64", "uint64", "float16", "float32", "float64"]
)
def test_features_keep_their_dtype_and_memory(dtype: str) -> None:
    given = EYE.astype(dtype)
    kept = MultiModalGraph({"x": given}).x["node"]["x"]
    assert kept.dtype == given.dtype
    assert np.shares_memory(kept, given)


def test_the_users_own_array_stays_writable() -> None:
    given = EYE.copy()
    graph = MultiModalGraph({"x": given})
    given[0, 0] = 5
    with pytest.raises(ValueError, match="read-only"):
        graph.x["node"]["x"][0, 0] = 6


def test_a_read_only_memory_map_stays_one(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", EYE)
    given = np.load(tmp_path / "x.npy", mmap_mode="r")
    graph = MultiModalGraph({"x": given})
    kept = graph.x["node"]["x"]
    assert isinstance(kept, np.memmap)
    assert np.shares_memory(kept, given)
    assert graph.present("node", "x").all()


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil", "dok"])
@pytest.mark.parametrize("container", [sparse.coo_array, sparse.coo_matrix])
def test_sparse_features_stay_sparse(kind: str, container: Any) -> None:
    given = container(np.arange(6, dtype=np.float32).reshape(2, 3)).asformat(kind)
    kept = MultiModalGraph({"text": given}).x["node"]["text"]
    assert isinstance(kept, sparse.csr_array)
    assert kept.dtype == np.float32
    assert np.array_equal(kept.toarray(), given.toarray())


def test_sparse_csr_features_are_not_copied() -> None:
    given = sparse.csr_array(EYE)
    kept = MultiModalGraph({"text": given}).x["node"]["text"]
    assert np.shares_memory(kept.data, given.data)
    assert given.data.flags.writeable
    assert not kept.data.flags.writeable


def test_sparse_features_with_repeated_entries_are_summed_in_a_copy() -> None:
    given = sparse.csr_array((np.ones(3), np.array([2, 0, 0]), np.array([0, 3])), shape=(1, 3))
    kept = MultiModalGraph({"text": given}).x["node"]["text"]
    assert kept.has_canonical_format
    assert kept.toarray().tolist() == [[2, 0, 1]]
    assert given.nnz == 3


def test_sparse_features_with_indices_out_of_range_are_an_error() -> None:
    given = sparse.csr_array(EYE)
    given.indices = given.indices + 1
    with pytest.raises(ValueError, match="Modality 'text' of node type 'node' must be a valid sp"):
        MultiModalGraph({"text": given})


def test_a_data_frame_gives_its_values_and_column_names() -> None:
    frame = pd.DataFrame({"year": [1999, 2001], "long": [True, False], "cost": [1.5, np.nan]})
    graph = MultiModalGraph({"movie": {"table": frame}, "actor": 1})
    assert graph.x["movie"]["table"].tolist()[0] == [1999, 1, 1.5]
    assert graph.feature_names == {"movie": {"table": ("year", "long", "cost")}, "actor": {}}


def test_a_data_frame_without_column_names_has_no_feature_names() -> None:
    assert MultiModalGraph({"x": pd.DataFrame(EYE)}).feature_names["node"] == {}


def test_a_data_frame_with_nullable_columns_gives_nan() -> None:
    frame = pd.DataFrame(
        {"a": pd.array([1, None], "Int64"), "b": pd.array([True, None], "boolean")}
    )
    values = MultiModalGraph({"x": frame}).x["node"]["x"]
    assert values.dtype == np.float64
    assert np.isnan(values[1]).all()


def test_a_data_frame_with_sparse_columns_stays_sparse() -> None:
    frame = pd.DataFrame.sparse.from_spmatrix(sparse.csr_array(EYE), columns=list("abc"))
    graph = MultiModalGraph({"x": frame})
    assert sparse.issparse(graph.x["node"]["x"])
    assert graph.feature_names["node"]["x"] == ("a", "b", "c")


@pytest.mark.parametrize("container", [sparse.dok_array, sparse.dok_matrix])
def test_a_dok_matrix_is_a_matrix_and_no_dict(container: Any) -> None:
    graph = MultiModalGraph({"x": container(EYE)})
    assert graph.schema.node_types == {"node": {"x": 3}}
    assert graph.with_features({"y": container(EYE)}).schema.node_types == {"node": {"y": 3}}
    for wrong in (container(EYE), {"movie": {"x": EYE}, "actor": container(EYE)}):
        with pytest.raises(TypeError, match="must be a dict"):
            MultiModalGraph(wrong)


def test_sparse_columns_that_leave_out_nan_become_dense() -> None:
    frame = pd.DataFrame({"a": [1.0, np.nan, 0.0], "b": [0.0, np.nan, 2.0]})
    graph = MultiModalGraph({"x": frame.astype(pd.SparseDtype(float))})
    np.testing.assert_array_equal(graph.x["node"]["x"], frame)
    assert graph.present("node", "x").tolist() == [True, False, True]


def test_a_polars_data_frame_is_taken() -> None:
    polars = pytest.importorskip("polars")
    graph = MultiModalGraph({"x": polars.DataFrame({"a": [1, 2], "b": [0.5, None]})})
    assert graph.feature_names["node"]["x"] == ("a", "b")
    assert np.isnan(graph.x["node"]["x"][1, 1])


def test_lists_and_foreign_byte_order_become_native_arrays() -> None:
    graph = MultiModalGraph({"a": [[1, 2], [3, 4]], "b": np.ones((2, 1), dtype=">f4")})
    assert graph.x["node"]["a"].tolist() == [[1, 2], [3, 4]]
    assert graph.x["node"]["b"].dtype == np.dtype("f4")


@pytest.mark.parametrize(
    "matrix",
    [
        np.array([["a"], ["b"]]),
        np.array([["a"], [1]], dtype=object),
        np.ones((2, 1), dtype=complex),
        np.array([["2020-01-01"]], dtype="datetime64[D]"),
    ],
)
def test_features_that_are_no_numbers_are_an_error(matrix: Any) -> None:
    message = r"Modality 'text' of node type 'movie' must hold numbers .* got dtype .*TfidfVectoriz"
    with pytest.raises(TypeError, match=message):
        MultiModalGraph({"movie": {"text": matrix}})


def test_text_columns_of_a_data_frame_are_named_in_the_error() -> None:
    frame = pd.DataFrame({"year": [1999], "title": ["Alien"]})
    message = r"numeric columns only, got 'title' .*them: \['title'\]\. .* a graph has to be"
    with pytest.raises(TypeError, match=message):
        MultiModalGraph({"movie": {"table": frame}})


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.ones(3), r"must be 2-D, one row per node, got shape \(3,\). Use x.reshape\(-1, 1\)"),
        (np.ones((3, 2, 2)), r"got shape \(3, 2, 2\). Use x.reshape\(len\(x\), -1\)"),
        (np.ones(()), "must be 2-D"),
        (sparse.coo_array(np.ones(3)), "must be 2-D"),
        (np.ones((3, 0)), "must have at least one column, got none"),
    ],
)
def test_features_that_are_not_2d_are_an_error(matrix: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MultiModalGraph({"movie": {"text": matrix}})


def test_ragged_lists_and_masked_arrays_are_errors() -> None:
    with pytest.raises(TypeError, match=r"must be a 2-D ndarray, .* of numbers, got list"):
        MultiModalGraph({"movie": {"text": [[1, 2], [3]]}})
    with pytest.raises(TypeError, match=r"must not be a masked array.*filled\(np.nan\)"):
        MultiModalGraph({"movie": {"text": np.ma.masked_invalid(EYE)}})


def test_tensors_are_taken_where_numpy_takes_them() -> None:
    assert MultiModalGraph({"x": torch.eye(3)}).x["node"]["x"].dtype == np.float32
    for tensor in (torch.eye(3, requires_grad=True), torch.eye(3).bfloat16()):
        with pytest.raises(TypeError, match=r"must be a 2-D ndarray, .* got Tensor"):
            MultiModalGraph({"x": tensor})


# Whatever is given in place of a part of a graph.
WRONG = [
    *(None, -1, 2.5, float("nan"), True, "", b"x", object(), iter([1]), [[None, 1]]),
    *([[1, 2], [3]], np.ones(3), np.ones((3, 2, 1)), np.array(None), np.array([["a"]])),
    *(sparse.eye_array(3), sparse.coo_array(np.ones(3)), sparse.csr_array(np.eye(3) * 1j)),
    *(pd.DataFrame({"a": ["x"] * 3}), pd.DataFrame(), pd.Series([1.0, 2.0, 3.0])),
    *(pd.DataFrame([["z", 2]], columns=["a", "a"]), pd.DataFrame({"a": pd.Categorical([1] * 3)})),
    *(torch.eye(3, requires_grad=True), torch.eye(3).to_sparse()),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda value: type(value).__name__)
def test_whatever_is_given_the_error_is_ours(wrong: Any) -> None:
    nodes: dict[str, Any] = {"movie": {"text": EYE}}
    graph = MultiModalGraph({**nodes, "actor": 2})
    for use in (
        lambda: MultiModalGraph(wrong),
        lambda: MultiModalGraph({"actor": wrong, **nodes}),
        lambda: MultiModalGraph({"movie": {"x": np.ones((9, 1)), "text": wrong}}),
        lambda: MultiModalGraph(nodes, {"cites": wrong}),
        lambda: MultiModalGraph(nodes, masks={"movie": {"text": wrong}}),
        lambda: graph.nodes(wrong),
        lambda: graph.induced(wrong, [0]),
        lambda: graph.with_features(wrong),
        lambda: graph.with_features({"movie": wrong}),
        lambda: graph.subgraph(wrong),
    ):
        try:
            use()
        except (TypeError, ValueError) as error:
            assert re.search("must|is not in the graph|refers to", str(error))  # noqa: PT017


def test_modalities_with_different_numbers_of_rows_are_an_error() -> None:
    message = (
        "All modalities of node type 'movie' must have one row per node, got "
        "{'text': 4278, 'image': 3941} rows. Reindex them to the same nodes; a missing row is a "
        "row of NaN."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        MultiModalGraph({"movie": {"text": np.ones((4278, 1)), "image": np.ones((3941, 1))}})


def test_data_frames_with_rows_in_another_order_are_an_error() -> None:
    text = pd.DataFrame(EYE, index=["tt1", "tt2", "tt3"])
    image = text.loc[["tt2", "tt1", "tt3"]]
    message = r"same index, got another one for 'image' than for 'text'. Use image.reindex\(text.in"
    for frames in (
        {"text": text, "image": image},
        {"x": EYE, "text": text, "image": image},
        {"text": pd.DataFrame(EYE), "image": pd.DataFrame(EYE).loc[[2, 1, 0]]},
    ):
        with pytest.raises(ValueError, match=message):
            MultiModalGraph({"movie": frames})


def test_data_frames_with_the_same_or_no_index_are_taken() -> None:
    text = pd.DataFrame(EYE, index=["tt1", "tt2", "tt3"])
    frames = {"text": text, "image": text * 2, "sound": pd.DataFrame(EYE)}
    assert MultiModalGraph({"movie": frames}).n_nodes == {"movie": 3}


# ----------------------------------------------------------------------------------- node types


def test_a_dict_of_matrices_is_one_node_type() -> None:
    graph = MultiModalGraph({"a": EYE, "b": sparse.csr_array(EYE)}, {"near": [[0], [1]]})
    assert graph.n_nodes == {"node": 3}
    assert graph.edge_types == (("node", "near", "node"), ("node", "rev_near", "node"))


def test_a_count_is_a_node_type_without_features() -> None:
    graph = MultiModalGraph({"movie": {"text": EYE}, "actor": np.int32(4), "studio": 0})
    assert graph.n_nodes == {"movie": 3, "actor": 4, "studio": 0}
    assert graph.x["actor"] == {}
    assert MultiModalGraph({"actor": 4}).node_types == ("actor",)


def test_a_node_type_with_an_empty_dict_is_an_error() -> None:
    message = "Node type 'actor' must have a modality or a count, got an empty dict. Give the numb"
    with pytest.raises(ValueError, match=message):
        MultiModalGraph({"movie": {"text": EYE}, "actor": {}})


@pytest.mark.parametrize("nodes", [{}, {"actor": 0}, {"x": np.ones((0, 3))}])
def test_an_empty_graph_is_an_error(nodes: Any) -> None:
    with pytest.raises(ValueError, match="A graph must have at least one node"):
        MultiModalGraph(nodes)


def test_negative_counts_are_an_error() -> None:
    with pytest.raises(ValueError, match="must have 0 nodes or more, got -1"):
        MultiModalGraph({"actor": -1})


@pytest.mark.parametrize("wrong", [5257.0, True, None, "many", np.ones((3, 2))])
def test_what_is_neither_count_nor_dict_is_an_error(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"'actor' must be a dict of matrices or a count \(int\)"):
        MultiModalGraph({"movie": {"text": EYE}, "actor": wrong})


def test_a_bare_matrix_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"nodes must be a dict, got ndarray. Write {'x': matr"):
        MultiModalGraph(EYE)  # type: ignore[arg-type]


def test_names_that_are_no_strings_are_errors() -> None:
    with pytest.raises(TypeError, match=r"A node type must be named by a string, got 0 \(int\)"):
        MultiModalGraph({0: {"text": EYE}})  # type: ignore[dict-item]
    with pytest.raises(TypeError, match="A modality of node type 'movie' must be named by a str"):
        MultiModalGraph({"movie": {1: EYE}})
    with pytest.raises(TypeError, match=r"Each part of edge type .* must be named by a string"):
        MultiModalGraph({"movie": {"x": EYE}}, {("movie", 1, "movie"): [[0], [1]]})
    with pytest.raises(ValueError, match="A node type must have a name, got an empty string"):
        MultiModalGraph({"": {"x": EYE}})


# ---------------------------------------------------------------------------------------- edges


@pytest.mark.parametrize(
    "edges",
    [
        [[0, 0, 2], [0, 1, 1]],
        np.array([[0, 0, 2], [0, 1, 1]], dtype=np.uint8),
        (np.array([0, 0, 2]), np.array([0, 1, 1])),
        pd.DataFrame({"movie": [0, 0, 2], "actor": [0, 1, 1]}),
        pd.DataFrame({"movie": [0, 0, 2], "actor": [0, 1, 1]}, dtype="Int64"),
        sparse.csr_array(([1, 1, 1], ([0, 0, 2], [0, 1, 1])), shape=(3, 2)),
        sparse.csc_matrix(([True, True, True], ([0, 0, 2], [0, 1, 1])), shape=(3, 2)),
    ],
)
def test_every_form_of_edges_gives_the_same_ids(edges: Any) -> None:
    ids = make_stars(edges).edge_index[STARS]
    assert ids.dtype == np.int64
    assert sorted(zip(*ids.tolist(), strict=True)) == [(0, 0), (0, 1), (2, 1)]


def test_edge_ids_are_a_private_read_only_copy() -> None:
    given = np.array([[0, 1], [0, 1]])
    ids = make_stars(given).edge_index[STARS]
    given[0, 0] = 99
    assert ids[0, 0] == 0
    assert given.flags.writeable
    assert not ids.flags.writeable


@pytest.mark.parametrize(
    ("edges", "wrong"), [([[0], [5257]], "actor 5257"), ([[0], [-1]], "actor -1")]
)
def test_ids_out_of_range_are_an_error(edges: Any, wrong: str) -> None:
    message = (
        f"Edge type ('movie', 'stars', 'actor') refers to {wrong}, but there are 5257 actors, "
        f"so ids run from 0 to 5256."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make_stars(edges, n_actors=5257)


def test_the_error_for_ids_counts_as_people_do() -> None:
    with pytest.raises(ValueError, match="refers to actor 1, but there is 1 actor, so ids run fr"):
        make_stars([[0], [1]], n_actors=1)
    with pytest.raises(ValueError, match="but there are 0 actors, so no id can be used"):
        make_stars([[0], [0]], n_actors=0)
    with pytest.raises(ValueError, match="refers to news 3, but there are 3 news, so"):
        MultiModalGraph({"news": {"text": EYE}}, {"cites": [[3], [0]]})


def test_huge_unsigned_ids_are_out_of_range() -> None:
    with pytest.raises(ValueError, match="refers to actor 18446744073709551615"):
        make_stars(np.array([[0], [2**64 - 1]], dtype=np.uint64))


@pytest.mark.parametrize(
    "edges",
    [
        np.array([[0.0], [1.0]]),
        np.array([[True], [False]]),
        [["tt1"], ["nm1"]],
        pd.DataFrame({"a": [0, 1], "b": [0, np.nan]}),
    ],
)
def test_ids_that_are_no_integers_are_an_error(edges: Any) -> None:
    message = r"Edge type \('movie', 'stars', 'actor'\) must have integer ids, got dtype"
    with pytest.raises(TypeError, match=message):
        make_stars(edges)


def test_string_ids_in_a_data_frame_are_an_error() -> None:
    with pytest.raises(TypeError, match="must have numeric columns only, got 'movie'"):
        make_stars(pd.DataFrame({"movie": ["tt1"], "actor": ["nm1"]}))


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        (np.zeros((4, 2), dtype=int), r"shape \(2, n_edges\).* got shape \(4, 2\). Transpose it"),
        (np.zeros((3, 5), dtype=int), r"got shape \(3, 5\)"),
        (np.zeros(3, dtype=int), r"got shape \(3,\)"),
        *(
            (pd.DataFrame(np.zeros((n, 3))), r"got 3 columns\. Weights .* coo_array.*from_pandas")
            for n in (2, 4)
        ),
    ],
)
def test_edges_of_another_shape_are_an_error(edges: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_stars(edges)


def test_a_source_without_a_destination_is_an_error() -> None:
    with pytest.raises(TypeError, match="must have one destination for each source, got tuple"):
        make_stars(([0, 1], [0]))


def test_an_adjacency_of_the_wrong_shape_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"= \(3, 2\), got \(3, 3\)\.$"):
        make_stars(sparse.csr_array(EYE))
    with pytest.raises(ValueError, match=r"got \(2, 3\). Transpose it.$"):
        make_stars(sparse.csr_array((2, 3)))


def test_an_unknown_node_type_in_an_edge_type_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"\['movie'\], got 'actor'. Add it to nodes, with a cou"):
        MultiModalGraph({"movie": {"text": EYE}}, {STARS: [[0], [0]]})


def test_a_modality_taken_for_a_node_type_is_pointed_out() -> None:
    with pytest.raises(ValueError, match=r"declares a modality; write \{type: \{modality: matrix"):
        MultiModalGraph({"movie": EYE}, {("movie", "cites", "movie"): [[0], [0]]})


@pytest.mark.parametrize("key", ["stars", ("movie", "actor"), ["movie", "stars", "actor"][0], 3])
def test_an_edge_type_that_is_no_triple_is_an_error(key: Any) -> None:
    with pytest.raises(ValueError, match="An edge type must be a tuple"):
        MultiModalGraph({"movie": {"text": EYE}, "actor": 1}, {key: [[0], [0]]})


def test_edges_that_are_no_dict_are_an_error() -> None:
    with pytest.raises(TypeError, match=r"edges must be a dict .* got list"):
        MultiModalGraph({"x": EYE}, [[0], [1]])  # type: ignore[arg-type]


def test_an_edge_type_given_twice_is_an_error() -> None:
    edges = {"near": [[0], [1]], ("node", "near", "node"): [[0], [1]]}
    with pytest.raises(ValueError, match="must be given once, got it twice"):
        MultiModalGraph({"x": EYE}, edges)


def test_values_other_than_one_become_weights_and_zeros_are_dropped() -> None:
    adjacency = sparse.csr_array(([2.0, 0.0, -1.0], ([0, 1, 2], [0, 1, 1])), shape=(3, 2))
    graph = make_stars(adjacency)
    assert graph.edge_index[STARS].tolist() == [[0, 2], [0, 1]]
    assert graph.edge_weight[STARS].tolist() == [2, -1]
    assert graph.edge_weight["actor", "rev_stars", "movie"].tolist() == [2, -1]
    assert graph.edge_weight[STARS].dtype == np.float32


def test_an_adjacency_of_ones_has_no_weights() -> None:
    assert make_stars(sparse.csr_array(np.ones((3, 2)))).edge_weight == {}


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_weights_that_are_not_finite_are_an_error(value: float) -> None:
    adjacency = sparse.csr_array(([value], ([0], [0])), shape=(3, 2))
    with pytest.raises(ValueError, match="must have finite weights, got"):
        make_stars(adjacency)


def test_weights_that_are_no_real_numbers_are_an_error() -> None:
    with pytest.raises(TypeError, match="must have numeric weights, got complex128"):
        make_stars(sparse.csr_array(np.ones((3, 2), dtype=complex)))


@pytest.mark.parametrize(
    "edges", [[], [[], []], np.empty((2, 0)), sparse.csr_array((3, 2)), pd.DataFrame({"a": []})]
)
def test_an_empty_edge_set_is_allowed(edges: Any) -> None:
    graph = make_stars(edges)
    assert graph.edge_index[STARS].shape == (2, 0)
    assert graph.edge_types == (STARS, ("actor", "rev_stars", "movie"))


# ---------------------------------------------------------------------------------------- masks


def test_a_mask_of_the_wrong_length_is_an_error() -> None:
    message = r"'text' of node type 'movie' must have a mask .* shape \(3,\), got shape \(2,\)"
    with pytest.raises(ValueError, match=message):
        MultiModalGraph({"movie": {"text": EYE}}, masks={"movie": {"text": [True, False]}})


def test_a_mask_that_is_not_boolean_is_an_error() -> None:
    with pytest.raises(TypeError, match=r"mask of booleans .* got dtype int64. Use mask.astype"):
        MultiModalGraph({"text": EYE}, masks={"text": [1, 0, 1]})


def test_masks_of_unknown_types_and_modalities_are_errors() -> None:
    nodes = {"movie": {"text": EYE}, "actor": 2}
    with pytest.raises(ValueError, match=r"Node type 'director' is not in the graph. It has"):
        MultiModalGraph(nodes, masks={"director": {"text": [True] * 3}})
    with pytest.raises(ValueError, match=r"'movie' has no modality 'image'. It has \['text'\]"):
        MultiModalGraph(nodes, masks={"movie": {"image": [True] * 3}})
    with pytest.raises(TypeError, match="masks of node type 'movie' must be a dict"):
        MultiModalGraph(nodes, masks={"movie": [True] * 3})
    with pytest.raises(TypeError, match="masks must be a dict"):
        MultiModalGraph(nodes, masks=[True] * 3)  # type: ignore[arg-type]


def test_a_mask_is_a_private_copy() -> None:
    mask = np.array([True, False, True])
    graph = MultiModalGraph({"text": EYE}, masks={"text": mask})
    mask[:] = False
    assert graph.present("node", "text").tolist() == [True, False, True]
