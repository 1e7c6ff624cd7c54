"""Features on their way to tensors: scaled, completed, shared, and sparse all the way."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from skmmg import MultiModalGraph, MultiModalGraphClassifier
from skmmg.nn import GraphTensors, SparseMatrix
from skmmg.training import _tensors, column_statistics, graph_tensors, scale_features

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)
EMBEDDING = RNG.normal([0, 1, -2], [1, 2, 3], size=(50, 3))
TABLE = RNG.normal([0, 1, -2], [1e-2, 1, 1e4], size=(50, 3))


def scale(x: Any, scaling: str | None, mask: np.ndarray | None = None) -> Any:
    """Scale a matrix as the only modality of a graph."""
    masks = None if mask is None else {"x": mask}
    graph = MultiModalGraph({"x": x}, masks=masks)
    statistics = column_statistics(graph, scaling)["node"]["x"]
    return scale_features(graph.x["node"]["x"], graph.present("node", "x"), *statistics)


# ------------------------------------------------------------------------------ scaling


def test_standardize_is_the_standard_scaler() -> None:
    assert_allclose(scale(EMBEDDING, "standardize"), StandardScaler().fit_transform(EMBEDDING))


def test_auto_standardizes_a_table() -> None:
    assert_allclose(scale(TABLE, "auto"), StandardScaler().fit_transform(TABLE))


def test_auto_keeps_the_proportions_of_an_embedding() -> None:
    scaled = scale(EMBEDDING, "auto")

    centered = EMBEDDING - EMBEDDING.mean(0)
    ratio = scaled / centered
    assert_allclose(ratio, ratio[0, 0])
    assert_allclose((scaled**2).mean(), 1)


def test_none_leaves_the_numbers_alone() -> None:
    assert_array_equal(scale(TABLE, None), TABLE)


@pytest.mark.parametrize("scaling", ["auto", "standardize"])
def test_a_constant_column_becomes_zeros(scaling: str) -> None:
    x = np.column_stack([EMBEDDING, np.full(50, 1e6 + 0.1)])

    scaled = scale(x, scaling)

    assert_allclose(scaled[:, 3], 0, atol=1e-6)
    assert np.isfinite(scaled).all()


@pytest.mark.parametrize("scaling", ["auto", "standardize"])
def test_a_matrix_of_one_number_becomes_zeros(scaling: str) -> None:
    assert_array_equal(scale(np.full((5, 2), 3.0), scaling), np.zeros((5, 2)))


@pytest.mark.parametrize("scaling", ["auto", "standardize"])
def test_missing_rows_do_not_count_and_become_zeros(scaling: str) -> None:
    x = EMBEDDING.copy()
    x[10:20] = np.nan
    there = np.r_[0:10, 20:50]

    scaled = scale(x, scaling)

    assert_allclose(scaled[there], scale(EMBEDDING[there], scaling))
    assert_array_equal(scaled[10:20], np.zeros((10, 3)))


def test_a_cell_of_nan_becomes_the_mean_of_its_column() -> None:
    x = EMBEDDING.copy()
    x[3, 1] = np.nan

    scaled = scale(x, "standardize")

    assert_allclose(scaled[[*range(3), *range(4, 50)]][:, 1], _standardized_without(3, 1))
    assert scaled[3, 1] == 0


def _standardized_without(row: int, column: int) -> np.ndarray:
    return StandardScaler().fit_transform(np.delete(EMBEDDING, row, 0))[:, column]


def test_masked_rows_of_a_sparse_matrix_do_not_count_and_become_zeros() -> None:
    x = sparse.random_array((40, 6), density=0.5, rng=np.random.default_rng(0)).tocsr()
    mask = np.arange(40) >= 10

    scaled = scale(x, "standardize", mask)

    assert scaled[:10].nnz == 0 or abs(scaled[:10]).max() == 0
    assert_allclose(scaled[10:].toarray(), scale(x[10:], "standardize").toarray())


def test_sparse_columns_are_scaled_to_a_mean_square_of_one_and_not_centred() -> None:
    x = sparse.random_array((40, 6), density=0.3, rng=np.random.default_rng(0)).tocsr()

    scaled = scale(x, "standardize")

    assert sparse.issparse(scaled)
    assert_array_equal(scaled.indices, x.indices)
    assert_allclose(scaled.power(2).mean(0), 1)


@pytest.mark.parametrize("scaling", ["auto", "standardize"])
def test_a_sparse_cell_of_nan_becomes_zero_and_does_not_count(scaling: str) -> None:
    x = sparse.random_array((40, 6), density=0.5, rng=np.random.default_rng(0)).tocsr()
    with_gap = x.copy()
    with_gap.data[3] = np.nan
    row, column = np.searchsorted(x.indptr, 3, side="right") - 1, x.indices[3]
    others = np.delete(x.toarray()[:, column], row)

    scaled = scale(with_gap, scaling).toarray()

    assert np.isfinite(scaled).all()
    assert scaled[row, column] == 0
    rest = np.delete(scaled[:, column], row)
    assert rest.any()
    if scaling == "standardize":
        assert_allclose(rest, others / np.sqrt(np.mean(others**2)))


@pytest.mark.parametrize("scaling", ["auto", "standardize", None])
def test_a_sparse_matrix_is_scaled_by_the_statistics_of_a_dense_one(scaling: str | None) -> None:
    x = np.where(RNG.random((9000, 3)) < 0.5, RNG.normal(5.0, 2.0, size=(9000, 3)), 0.0)
    x[3, 1] = np.nan
    graph = MultiModalGraph({"x": x})
    statistics, present = column_statistics(graph, scaling)["node"]["x"], np.arange(9000) != 7

    dense, of_sparse = (scale_features(a, present, *statistics) for a in (x, sparse.csr_array(x)))

    of_sparse = of_sparse.toarray() if sparse.issparse(of_sparse) else of_sparse
    assert_allclose(of_sparse, dense)


def test_auto_divides_a_sparse_matrix_by_one_number() -> None:
    x = sparse.random_array((40, 6), density=0.3, rng=np.random.default_rng(0)).tocsr()
    uneven = sparse.csr_array(MaxAbsScaler().fit_transform(x) * np.logspace(0, 4, 6))

    scaled = scale(uneven, "auto")

    assert_allclose(scaled.data / uneven.data, scaled.data[0] / uneven.data[0])
    assert_allclose(scaled.power(2).sum() / (40 * 6), 1)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int64, np.float16, np.float32])
def test_any_number_is_scaled_in_double_precision(dtype: type[np.generic]) -> None:
    x = RNG.integers(0, 2, size=(30, 4)).astype(dtype)

    assert_allclose(scale(x, "standardize"), StandardScaler().fit_transform(x.astype(float)))


def test_large_values_of_half_precision_do_not_overflow() -> None:
    x = RNG.normal(3e4, 1e3, size=(30, 2)).astype(np.float16)

    assert_allclose(scale(x, "standardize"), StandardScaler().fit_transform(x.astype(float)))


def test_blocks_of_rows_give_what_all_rows_give(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scale(EMBEDDING, "auto")
    monkeypatch.setattr(_tensors, "_BLOCK_ROWS", 7)

    assert_allclose(scale(EMBEDDING, "auto"), whole)


def test_the_input_is_left_as_it_was() -> None:
    x, matrix = EMBEDDING.copy(), sparse.csr_array(EMBEDDING)
    x[2] = np.nan
    before = x.copy(), matrix.copy()

    scale(x, "standardize")
    scale(matrix, "standardize", np.arange(50) > 3)

    assert_array_equal(x, before[0])
    assert_array_equal(matrix.data, before[1].data)


# ------------------------------------------------------------------------------ tensors


def make_graph(x: Any = EMBEDDING) -> MultiModalGraph:
    edges = RNG.integers(50, size=(2, 100))
    return MultiModalGraph({"x": x}, {"near": edges})


def to_tensors(graph: MultiModalGraph, scaling: str | None = "auto", **kwargs: Any) -> GraphTensors:
    return graph_tensors(graph, column_statistics(graph, scaling), device=CPU, **kwargs)


def test_folds_share_one_set_of_tensors() -> None:
    graph = make_graph()

    first, second = to_tensors(graph), to_tensors(graph)

    assert first is second


def test_other_statistics_or_another_dtype_have_tensors_of_their_own() -> None:
    graph = make_graph()
    plain = to_tensors(graph)

    assert to_tensors(graph, "standardize") is not plain
    assert to_tensors(graph, dtype=torch.float64).x["node"]["x"].dtype == torch.float64


def test_tensors_of_other_statistics_share_the_edges_and_what_is_made_of_them() -> None:
    graph = make_graph()
    relation = graph.edge_types[0]
    plain = to_tensors(graph)
    edges = plain.edges(graph.edge_types)
    plain.cached("of features", list)

    other = to_tensors(graph, "standardize")

    assert other.edge_index[relation] is plain.edge_index[relation]
    assert other.edges(graph.edge_types) is edges
    assert other.x["node"]["x"] is not plain.x["node"]["x"]
    assert other.cached("of features", dict) == {}
    assert to_tensors(graph, dtype=torch.float64).edge_index[relation] is not edges


def test_the_last_labels_that_were_shown_are_kept() -> None:
    graph = make_graph()
    tensors = to_tensors(graph)
    labels, ids = np.arange(50) % 3, np.arange(50)

    first = _tensors.labelled_tensors(graph, tensors, labels, ids)

    assert first.labels is not None
    assert first.labels.tolist() == labels.tolist()
    assert _tensors.labelled_tensors(graph, tensors, labels.copy(), ids.copy()) is first
    for other in ((tensors, labels + 1, ids), (tensors, labels, ids - 1)):
        assert _tensors.labelled_tensors(graph, *other) is not first
    fresh = _tensors.labelled_tensors(graph, to_tensors(graph, "standardize"), labels, ids)
    assert fresh is not first
    assert fresh.x["node"]["x"] is not first.x["node"]["x"]


def test_tensors_go_when_the_graph_goes() -> None:
    graph = make_graph()
    tensors = to_tensors(graph)
    _tensors.labelled_tensors(graph, tensors, np.arange(50), np.arange(50))
    n_graphs = len(_tensors._cache), len(_tensors._labelled)

    del graph, tensors
    gc.collect()

    assert (len(_tensors._cache), len(_tensors._labelled)) == tuple(n - 1 for n in n_graphs)


def test_folds_of_a_cross_validation_share_the_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[GraphTensors] = []
    make = _tensors._make_tensors

    def count(*args: Any) -> GraphTensors:
        made.append(make(*args))
        return made[-1]

    monkeypatch.setattr(_tensors, "_make_tensors", count)
    graph, y = make_graph(), np.arange(50) % 2
    for start in (0, 25):
        X = graph.nodes(ids=slice(start, start + 25))
        MultiModalGraphClassifier(max_epochs=1, random_state=0).fit(X, y[X.ids]).predict(X)

    assert len(made) == 1


def test_edges_missing_rows_and_weights_arrive() -> None:
    x = EMBEDDING.copy()
    x[4] = np.nan
    adjacency = sparse.csr_array(([0.5, 2.0], ([0, 1], [1, 2])), shape=(50, 50))
    graph = MultiModalGraph({"x": x}, {"near": adjacency}, add_reverse=False)

    tensors = to_tensors(graph)

    assert torch.equal(tensors.missing["node"]["x"], torch.arange(50) == 4)
    assert tensors.edge_index["node", "near", "node"].tolist() == [[0, 1], [1, 2]]
    assert tensors.edge_weight["node", "near", "node"].tolist() == [0.5, 2.0]


def test_tensors_do_not_share_memory_with_the_users_array() -> None:
    graph = make_graph(EMBEDDING.astype(np.float32))

    tensors = to_tensors(graph, None)
    tensors.x["node"]["x"].fill_(7.0)

    assert not (graph.x["node"]["x"] == 7.0).any()


# ------------------------------------------------------------------------------ never dense


def refuse(*args: Any, **kwargs: Any) -> None:
    raise AssertionError("a sparse matrix was made dense")


@pytest.fixture
def forbid_dense(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def forbid() -> None:
        for kind in (sparse.csr_array, sparse.csr_matrix, sparse.csc_array, sparse.coo_array):
            monkeypatch.setattr(kind, "toarray", refuse)
            monkeypatch.setattr(kind, "todense", refuse)
        monkeypatch.setattr(torch.Tensor, "to_dense", refuse)

    return forbid


@pytest.mark.parametrize("model", ["hgnn_ima", "hgt", "mlp"])
@pytest.mark.parametrize("scaling", ["auto", "standardize", None])
def test_sparse_nodes_are_never_made_dense(
    model: str, scaling: str | None, forbid_dense: Callable[[], None]
) -> None:
    words = sparse.random_array((50, 300), density=0.05, rng=np.random.default_rng(0))
    graph = MultiModalGraph({"text": words.tocsr(), "x": EMBEDDING}, {"near": [[0, 1], [1, 2]]})
    X, y = graph.nodes(), np.arange(50) % 2
    forbid_dense()

    clf = MultiModalGraphClassifier(model, scaling=scaling, max_epochs=2, random_state=0).fit(X, y)

    assert isinstance(to_tensors(graph, scaling).x["node"]["text"], SparseMatrix)
    assert clf.predict(X).shape == (50,)


@pytest.mark.parametrize("graph", ["knn", "radius", "none"])
def test_sparse_rows_are_never_made_dense(graph: str, forbid_dense: Callable[[], None]) -> None:
    X = sparse.random_array((50, 300), density=0.05, rng=np.random.default_rng(0)).tocsr()
    y = np.arange(50) % 2
    modalities = {"text": slice(0, 200), "tags": slice(200, 300)}
    forbid_dense()

    clf = MultiModalGraphClassifier(
        graph=graph, modalities=modalities, max_epochs=2, random_state=0
    ).fit(X, y)

    assert clf.predict(X[:7]).shape == (7,)


def test_threads_share_what_is_kept_for_few_keys() -> None:
    tensors = to_tensors(make_graph())
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            keys = [("field", i % 5) for i in range(20_000)]
            things = list(pool.map(lambda key: tensors.cached(key, lambda: key, keep=2), keys))
    finally:
        sys.setswitchinterval(before)
    assert things == keys
    assert len(tensors._cache["features"]) == 2
