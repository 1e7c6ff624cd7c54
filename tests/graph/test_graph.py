"""MultiModalGraph: what it keeps, what it adds, and what can be made of it."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, clone

from skmmg.graph import MultiModalGraph, Schema

STARS, REV_STARS = ("movie", "stars", "actor"), ("actor", "rev_stars", "movie")
CITES, REV_CITES = ("paper", "cites", "paper"), ("paper", "rev_cites", "paper")
POSTER = np.array([[0.0, 1.0], [np.nan, np.nan], [2.0, np.nan], [3.0, 4.0]])
TEXT = sparse.csr_array(np.diag([1.0, 2.0, 3.0, 4.0]))


@pytest.fixture
def graph() -> MultiModalGraph:
    return MultiModalGraph(
        nodes={"movie": {"text": TEXT, "poster": POSTER}, "actor": 5},
        edges={
            STARS: [[0, 0, 1, 3, 3, 3], [0, 1, 1, 2, 2, 3]],
            ("movie", "like", "movie"): sparse.csr_array(
                ([0.5, 2.0, 3.0], ([0, 1, 3], [1, 3, 3])), shape=(4, 4)
            ),
        },
        masks={"movie": {"text": [True, True, False, True]}},
    )


def make_papers(edges: Any, **options: Any) -> MultiModalGraph:
    return MultiModalGraph({"paper": {"text": np.eye(4)}}, edges, **options)


# -------------------------------------------------------------------------------- what it keeps


def test_types_are_kept_in_the_order_given(graph: MultiModalGraph) -> None:
    like = ("movie", "like", "movie")
    assert graph.node_types == ("movie", "actor")
    assert graph.edge_types == (STARS, like, REV_STARS, ("movie", "rev_like", "movie"))
    assert list(graph.x["movie"]) == ["text", "poster"]


def test_the_schema_holds_names_and_widths(graph: MultiModalGraph) -> None:
    widths = {"movie": {"text": 4, "poster": 2}, "actor": {}}
    assert graph.schema == Schema(widths, graph.edge_types)


def test_a_graph_cannot_be_changed(graph: MultiModalGraph) -> None:
    with pytest.raises(AttributeError, match="cannot be changed, so 'x' cannot be set"):
        graph.x = {}  # type: ignore[misc]
    with pytest.raises(AttributeError, match="cannot be deleted"):
        del graph.x
    with pytest.raises(TypeError):
        graph.x["movie"]["text"] = TEXT  # type: ignore[index]
    with pytest.raises(TypeError):
        graph.n_nodes["movie"] = 5  # type: ignore[index]
    with pytest.raises(ValueError, match="read-only"):
        graph.edge_index[STARS][0, 0] = 1


def test_duplicate_edges_are_kept() -> None:
    assert make_papers({"cites": [[0, 0, 0], [1, 1, 2]]}).edge_index[CITES].shape == (2, 3)


def test_duplicate_edges_of_a_coo_matrix_are_kept() -> None:
    twice = sparse.coo_array(([1, 1], ([0, 0], [1, 1])), shape=(4, 4))
    graph = make_papers({"cites": twice})
    assert graph.edge_index[CITES].tolist() == [[0, 0], [1, 1]]
    assert graph.edge_weight == {}


def test_self_loops_are_kept() -> None:
    assert make_papers({"cites": [[2], [2]]}).edge_index[CITES].tolist() == [[2], [2]]


def test_isolated_nodes_are_kept() -> None:
    graph = MultiModalGraph({"paper": {"text": np.eye(4)}, "author": 3})
    assert graph.edge_types == ()
    assert graph.n_nodes == {"paper": 4, "author": 3}


# ---------------------------------------------------------------------------- reverse relations


def test_reverse_relations_are_added(graph: MultiModalGraph) -> None:
    assert np.array_equal(graph.edge_index[REV_STARS], graph.edge_index[STARS][::-1])
    assert graph.edge_index[REV_STARS].flags.c_contiguous
    weights = graph.edge_weight["movie", "rev_like", "movie"]
    assert np.array_equal(weights, graph.edge_weight["movie", "like", "movie"])


def test_add_reverse_can_be_switched_off() -> None:
    assert make_papers({"cites": [[0], [1]]}, add_reverse=False).edge_types == (CITES,)


def test_a_relation_that_is_the_exact_reverse_is_recognised() -> None:
    nodes = {"movie": 3, "actor": 3}
    edges = {STARS: [[0, 1, 1], [2, 0, 0]], ("actor", "in", "movie"): [[0, 2, 0], [1, 0, 1]]}
    assert MultiModalGraph(nodes, edges).edge_types == tuple(edges)


def test_a_relation_that_differs_in_one_edge_is_no_reverse() -> None:
    nodes = {"movie": 3, "actor": 3}
    for swapped in ([[0, 2, 0], [1, 0, 2]], [[0, 2], [1, 0]], [[2, 2, 0], [0, 0, 1]]):
        edges = {STARS: [[0, 1, 1], [2, 0, 0]], ("actor", "in", "movie"): swapped}
        added = set(MultiModalGraph(nodes, edges).edge_types) - set(edges)
        assert added == {REV_STARS, ("movie", "rev_in", "actor")}


def test_the_same_ends_joined_in_another_way_are_no_reverse() -> None:
    graph = make_papers({"cites": [[0, 1, 2, 3], [1, 2, 3, 0]]})
    assert graph.edge_types == (CITES, REV_CITES)


def test_a_symmetric_relation_is_its_own_reverse() -> None:
    assert make_papers({"cites": [[0, 1, 3], [1, 0, 3]]}).edge_types == (CITES,)


def test_a_symmetric_relation_counts_its_repeated_edges() -> None:
    assert len(make_papers({"cites": [[0, 1, 0], [1, 0, 1]]}).edge_types) == 2


def test_weights_are_part_of_what_makes_a_reverse() -> None:
    ends = np.array([[0, 1, 1, 2], [1, 0, 2, 1]])
    symmetric = sparse.coo_array(([2, 2, 3, 3], ends), shape=(4, 4))
    directed = sparse.coo_array(([2, 3, 2, 3], ends), shape=(4, 4))
    assert make_papers({"cites": symmetric}).edge_types == (CITES,)
    assert make_papers({"cites": directed}).edge_types == (CITES, REV_CITES)
    both = {"cites": directed, "cited_by": ends[::-1]}
    assert len(make_papers(both).edge_types) == 3


def test_a_name_taken_by_another_relation_is_an_error() -> None:
    edges = {"cites": [[0], [1]], "rev_cites": [[2], [3]]}
    with pytest.raises(ValueError, match="'rev_cites', 'paper'\\) must be the exact reverse of"):
        make_papers(edges)
    assert len(make_papers(edges, add_reverse=False).edge_types) == 2


# ------------------------------------------------------------------------------ missing modalities


def test_a_row_of_nan_is_a_missing_modality(graph: MultiModalGraph) -> None:
    assert graph.present("movie", "poster").tolist() == [True, False, True, True]


def test_a_mask_says_what_a_sparse_matrix_lacks(graph: MultiModalGraph) -> None:
    assert graph.present("movie", "text").tolist() == [True, True, False, True]


def test_a_mask_and_rows_of_nan_are_combined() -> None:
    graph = MultiModalGraph({"poster": POSTER}, masks={"poster": [False, True, True, True]})
    assert graph.present("node", "poster").tolist() == [False, False, True, True]


def test_rows_of_stored_nan_are_missing_in_a_sparse_matrix_too() -> None:
    graph = MultiModalGraph({"poster": sparse.csr_array(POSTER)})
    assert graph.present("node", "poster").tolist() == [True, False, True, True]


def test_presence_is_read_only_and_found_once(graph: MultiModalGraph) -> None:
    present = graph.present("movie", "poster")
    with pytest.raises(ValueError, match="read-only"):
        present[0] = False


def test_presence_is_the_same_in_small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skmmg.graph._payload._BLOCK_VALUES", 3)
    graph = MultiModalGraph({"poster": POSTER})
    assert graph.present("node", "poster").tolist() == [True, False, True, True]
    late = MultiModalGraph({"poster": np.where(np.isnan(POSTER), np.inf, POSTER)})
    with pytest.raises(ValueError, match="infinite value in row 1"):
        late.present("node", "poster")


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_an_infinite_value_is_an_error(container: Any) -> None:
    poster = POSTER.copy()
    poster[3, 0] = -np.inf
    graph = MultiModalGraph({"movie": {"poster": container(poster)}})
    message = "Modality 'poster' of node type 'movie' must hold finite .* infinite value in row 3"
    with pytest.raises(ValueError, match=message):
        graph.present("movie", "poster")


def test_a_modality_that_no_node_has_is_an_error() -> None:
    graph = MultiModalGraph({"movie": {"text": TEXT, "poster": np.full((4, 2), np.nan)}})
    message = "'poster' of node type 'movie' must have a row for some node, got NaN in all 4 rows"
    with pytest.raises(ValueError, match=message):
        graph.present("movie", "poster")


def test_a_mask_can_say_that_no_node_has_a_modality() -> None:
    nodes = {"movie": {"poster": np.full((4, 2), np.nan)}}
    graph = MultiModalGraph(nodes, masks={"movie": {"poster": np.zeros(4, dtype=bool)}})
    assert not graph.present("movie", "poster").any()


def test_a_part_of_a_graph_may_lack_a_modality(graph: MultiModalGraph) -> None:
    part, _ = graph.induced("movie", [1])
    assert part.present("movie", "poster").tolist() == [False]


def test_unknown_types_and_modalities_are_errors(graph: MultiModalGraph) -> None:
    with pytest.raises(ValueError, match=r"'studio' is not in the graph. It has \['movie', 'act"):
        graph.present("studio", "text")
    with pytest.raises(ValueError, match=r"'actor' has no modality 'text'. It has \[\]"):
        graph.present("actor", "text")


# ------------------------------------------------------------------------------------------ views


def test_nodes_of_the_only_type_need_no_name() -> None:
    assert make_papers({}).nodes().node_type == "paper"


def test_nodes_of_several_types_need_a_name(graph: MultiModalGraph) -> None:
    with pytest.raises(ValueError, match=r"must be one of \['movie', 'actor'\], got None. Say whi"):
        graph.nodes()
    with pytest.raises(ValueError, match="Node type 'studio' is not in the graph"):
        graph.nodes("studio")


# ------------------------------------------------------------------------------------------ parts


def test_induced_keeps_the_other_types_whole(graph: MultiModalGraph) -> None:
    part, new_ids = graph.induced("movie", [3, 0, 3])
    assert new_ids.tolist() == [1, 0, 1]
    assert part.n_nodes == {"movie": 2, "actor": 5}
    assert part.edge_index[STARS].tolist() == [[0, 0, 1, 1, 1], [0, 1, 2, 2, 3]]
    assert part.edge_index[REV_STARS].tolist() == [[0, 1, 2, 2, 3], [0, 0, 1, 1, 1]]
    assert part.edge_weight["movie", "like", "movie"].tolist() == [3]
    assert part.x["movie"]["text"].toarray().tolist() == [[1, 0, 0, 0], [0, 0, 0, 4]]
    assert part.x["movie"]["poster"].tolist() == [[0, 1], [3, 4]]


def test_a_part_has_the_schema_of_the_whole(graph: MultiModalGraph) -> None:
    part = graph.subgraph({"movie": [2], "actor": []})
    assert part.schema == graph.schema
    assert part.n_nodes == {"movie": 1, "actor": 0}
    assert all(ids.shape == (2, 0) for ids in part.edge_index.values())


def test_a_part_keeps_masks_and_what_is_known_of_missing_rows(graph: MultiModalGraph) -> None:
    graph.present("movie", "poster")
    part = graph.subgraph({"movie": np.array([False, True, True, False])})
    assert part.present("movie", "text").tolist() == [True, False]
    assert part.present("movie", "poster").tolist() == [False, True]


def test_a_part_without_the_infinite_row_is_clean() -> None:
    graph = MultiModalGraph({"x": np.array([[1.0], [np.inf]])})
    with pytest.raises(ValueError, match="row 1"):
        graph.present("node", "x")
    assert graph.subgraph({"node": [0]}).present("node", "x").all()


def test_a_subgraph_may_cut_several_types(graph: MultiModalGraph) -> None:
    part = graph.subgraph({"movie": [0, 3], "actor": slice(1, 3)})
    assert part.edge_index[STARS].tolist() == [[0, 1, 1], [0, 1, 1]]
    assert part.edge_index[REV_STARS].tolist() == [[0, 1, 1], [0, 1, 1]]


def test_a_subgraph_of_all_nodes_has_the_same_edges(graph: MultiModalGraph) -> None:
    part = graph.subgraph({"movie": range(4), "actor": range(5)})
    for edge_type, ids in graph.edge_index.items():
        assert np.array_equal(part.edge_index[edge_type], ids)


def test_parts_of_ids_that_are_not_there_are_errors(graph: MultiModalGraph) -> None:
    with pytest.raises(ValueError, match="refers to movie 4, but there are 4 movies, so ids run"):
        graph.induced("movie", [0, 4])
    with pytest.raises(ValueError, match="refers to movie -1"):
        graph.induced("movie", [-1])
    with pytest.raises(ValueError, match="mask of 'movie' nodes must have 4 values"):
        graph.induced("movie", [True, False])
    with pytest.raises(TypeError, match="Ids of node type 'movie' must be integers, got dtype flo"):
        graph.induced("movie", [0.5])
    with pytest.raises(ValueError, match="must be 1-D, got shape"):
        graph.induced("movie", [[0]])
    with pytest.raises(ValueError, match="'studio' is not in the graph"):
        graph.subgraph({"studio": [0]})


def test_a_part_of_a_renumbered_graph_is_the_renumbered_part(graph: MultiModalGraph) -> None:
    order = np.array([2, 0, 3, 1])
    new_id = np.argsort(order)
    sources, targets = graph.edge_index[STARS]
    renumbered = MultiModalGraph(
        {"movie": {"poster": POSTER[order]}, "actor": 5}, {STARS: [new_id[sources], targets]}
    )
    part, ids = graph.induced("movie", [0, 3])
    same, same_ids = renumbered.induced("movie", new_id[[0, 3]])
    assert np.array_equal(
        part.x["movie"]["poster"][ids], same.x["movie"]["poster"][same_ids], equal_nan=True
    )
    ends = [
        set(map(tuple, np.argsort(i)[p.edge_index[STARS][0]][None].T.tolist()))
        for p, i in ((part, ids), (same, same_ids))
    ]
    assert ends[0] == ends[1]


# ---------------------------------------------------------------------------------- other features


def test_with_features_shares_nodes_and_edges(graph: MultiModalGraph) -> None:
    other = graph.with_features({"movie": {"fused": np.ones((4, 7))}})
    assert other.schema.node_types == {"movie": {"fused": 7}, "actor": {}}
    assert other.edge_index[STARS] is graph.edge_index[STARS]
    assert graph.schema.node_types["movie"] == {"text": 4, "poster": 2}


def test_with_features_can_add_and_remove_them(graph: MultiModalGraph) -> None:
    other = graph.with_features({"movie": {}, "actor": {"age": np.ones((5, 1))}})
    assert other.schema.node_types == {"movie": {}, "actor": {"age": 1}}
    assert other.masks == {"movie": {}}


def test_with_features_of_the_only_type_needs_no_type() -> None:
    papers = make_papers({"cites": [[0], [1]]})
    assert papers.with_features({"x": np.ones((4, 2))}).schema.node_types == {"paper": {"x": 2}}
    assert papers.with_features({}).schema == papers.schema


def test_with_features_keeps_masks_of_the_same_name(graph: MultiModalGraph) -> None:
    other = graph.with_features({"movie": {"text": np.ones((4, 2)), "poster": POSTER}})
    assert other.present("movie", "text").tolist() == [True, True, False, True]
    given = {"movie": {"poster": [True, True, True, False]}}
    both = graph.with_features({"movie": {"text": TEXT, "poster": POSTER}}, masks=given)
    assert both.present("movie", "text").tolist() == [True, True, False, True]
    assert both.present("movie", "poster").tolist() == [True, False, True, False]


def test_with_features_wants_a_row_for_each_node(graph: MultiModalGraph) -> None:
    with pytest.raises(ValueError, match=r"'movie' must have one row per node, 4, got {'x': 3} r"):
        graph.with_features({"movie": {"x": np.ones((3, 2))}})
    with pytest.raises(ValueError, match="Node type 'studio' is not in the graph"):
        graph.with_features({"studio": {"x": np.ones((3, 2))}})
    with pytest.raises(TypeError, match="features of node type 'movie' must be a dict"):
        graph.with_features({"movie": np.ones((4, 2))})


# ------------------------------------------------------------------------------ copies and pickles


class _Holder(BaseEstimator):
    def __init__(self, graph: MultiModalGraph | None = None) -> None:
        self.graph = graph


def test_clone_does_not_copy_the_graph(graph: MultiModalGraph) -> None:
    assert clone(_Holder(graph)).graph is graph


def assert_same(one: MultiModalGraph, other: MultiModalGraph) -> None:
    assert one.schema == other.schema
    assert one.n_nodes == other.n_nodes
    assert one.feature_names == other.feature_names
    for edge_type, ids in one.edge_index.items():
        assert np.array_equal(ids, other.edge_index[edge_type])
        assert not other.edge_index[edge_type].flags.writeable
    for node_type, modality in (("movie", "text"), ("movie", "poster")):
        assert np.array_equal(one.present(node_type, modality), other.present(node_type, modality))
        assert type(one.x[node_type][modality]) is type(other.x[node_type][modality])


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_graph_survives_pickling(graph: MultiModalGraph, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(graph, protocol=protocol))
    assert_same(graph, again)
    with pytest.raises(ValueError, match="read-only"):
        again.x["movie"]["poster"][0] = 1


def test_a_graph_survives_joblib_and_deepcopy(graph: MultiModalGraph, tmp_path: Path) -> None:
    joblib.dump(graph, tmp_path / "graph.joblib")
    assert_same(graph, joblib.load(tmp_path / "graph.joblib"))
    assert_same(graph, copy.deepcopy(graph))


def test_joblib_reads_a_pickled_graph_as_memory_maps(
    graph: MultiModalGraph, tmp_path: Path
) -> None:
    joblib.dump(graph.subgraph({"movie": [0, 2, 3]}), tmp_path / "graph.joblib")
    again = joblib.load(tmp_path / "graph.joblib", mmap_mode="r")
    assert isinstance(again.x["movie"]["poster"], np.memmap)
    assert again.induced("movie", [1])[0].n_nodes["movie"] == 1


def test_the_hash_of_a_graph_does_not_depend_on_what_was_asked(graph: MultiModalGraph) -> None:
    before = joblib.hash(graph)
    graph.present("movie", "poster")
    assert joblib.hash(graph) == before
    assert joblib.hash(pickle.loads(pickle.dumps(graph))) == before
    assert joblib.hash(graph.induced("movie", [0])[0]) != before


# ------------------------------------------------------------------------------ other packages


def test_a_graph_goes_out_to_hetero_data_and_comes_back(graph: MultiModalGraph) -> None:
    assert_same(graph, MultiModalGraph.from_hetero_data(graph.to_hetero_data()))


def test_a_graph_goes_out_to_networkx_and_comes_back(graph: MultiModalGraph) -> None:
    pytest.importorskip("networkx")
    again = MultiModalGraph.from_networkx(graph.to_networkx(), features=["text", "poster"])
    assert again.n_nodes == graph.n_nodes
    assert set(again.edge_types) == set(graph.edge_types)
    assert again.present("movie", "text").tolist() == [True, True, False, True]


def test_a_graph_comes_from_tables_with_string_ids() -> None:
    movies = pd.DataFrame({"id": ["tt2", "tt1"], "year": [1979, 1982]})
    actors = pd.DataFrame({"id": ["nm9", "nm5"]})
    stars = pd.DataFrame({"movie": ["tt1", "tt2"], "actor": ["nm9", "nm5"]})
    graph = MultiModalGraph.from_pandas({"movie": movies, "actor": actors}, {STARS: stars})
    assert graph.edge_index[STARS].tolist() == [[1, 0], [0, 1]]
    assert graph.feature_names["movie"] == {"x": ("year",)}


# ---------------------------------------------------------------------------------------- in words


def test_describe_counts_what_may_surprise(graph: MultiModalGraph) -> None:
    relations = graph.describe().relations.set_index("edge_type")
    stars, like = relations.loc["movie -stars-> actor"], relations.loc["movie -like-> movie"]
    assert stars[["n_edges", "duplicates", "self_loops", "isolated"]].tolist() == [6, 1, 0, 1]
    assert stars["max_in_degree"] == 2
    assert not stars["weighted"]
    assert like[["n_edges", "duplicates", "self_loops", "isolated"]].tolist() == [3, 0, 1, 2]
    assert like["weighted"]


def test_describe_tells_the_share_of_missing_rows(graph: MultiModalGraph) -> None:
    nodes = graph.describe().nodes
    assert nodes["missing"].tolist()[:2] == [0.25, 0.25]
    assert nodes["storage"].tolist() == ["sparse", "dense", ""]
    assert nodes["dtype"].tolist() == ["float64", "float64", ""]
    assert "25.0%" in str(graph.describe())


def test_describe_shows_a_graph_that_present_refuses() -> None:
    graph = MultiModalGraph({"movie": {"poster": np.full((4, 2), np.nan)}, "actor": 0})
    assert graph.describe().nodes["missing"].iloc[0] == 1
    assert "100.0%" in repr(graph.describe())


def test_the_repr_names_types_widths_and_counts(graph: MultiModalGraph) -> None:
    assert repr(graph) == (
        "MultiModalGraph(\n"
        "  movie: 4 nodes, text (4, sparse), poster (2)\n"
        "  actor: 5 nodes\n"
        "  movie -stars-> actor: 6 edges\n"
        "  movie -like-> movie: 3 edges\n"
        "  actor -rev_stars-> movie: 6 edges\n"
        "  movie -rev_like-> movie: 3 edges\n"
        ")"
    )


def test_html_is_escaped() -> None:
    name = "<script>"
    graph = MultiModalGraph({name: {name: np.eye(2)}}, {name: [[0], [1]]})
    for html in (
        graph._repr_html_(),
        graph.describe()._repr_html_(),
        graph.nodes()._repr_html_(),
    ):
        assert "&lt;script&gt;" in html
        assert name not in html


def test_html_of_a_graph_without_edges_has_one_table() -> None:
    graph = MultiModalGraph({"x": np.eye(2)})
    assert graph._repr_html_().count("<table") == 1
    assert graph.describe()._repr_html_().count("<table") == 1
    assert str(graph.describe()).count("\n") == 1
