from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import make_blobs

from skmmg.graph import KNNGraph, RadiusGraph
from skmmg.graph._neighbors import _METRICS
from skmmg.graph._search import Points, _find_nearest_of_all, find_nearest

Array = NDArray[Any]


def brute_force_distances(query: Array, reference: Array, metric: str) -> Array:
    """Distances of all pairs, one at a time and in long double, from their definitions."""
    query, reference = query.astype(np.longdouble), reference.astype(np.longdouble)
    differences = query[:, None, :] - reference[None, :, :]
    if metric == "euclidean":
        return np.sqrt((differences**2).sum(axis=-1))
    if metric == "manhattan":
        return np.abs(differences).sum(axis=-1)
    return 1 - cosines(query, reference)


def cosines(query: Array, reference: Array) -> Array:
    """Cosines, 0 between a row of zeros and another row, 1 between two rows of zeros."""
    lengths = [np.sqrt((x**2).sum(axis=1)) for x in (query, reference)]
    empty = [length == 0 for length in lengths]
    scaled = [
        x / np.where(is_empty, 1, length)[:, None]
        for x, length, is_empty in zip((query, reference), lengths, empty, strict=True)
    ]
    return scaled[0] @ scaled[1].T + (empty[0][:, None] & empty[1][None, :])


def brute_force_neighbors(query: Array, reference: Array, k: int, metric: str) -> set[Any]:
    """Pairs (fitted row, row) of the nearest rows; equals in the order of their ids."""
    distances = np.round(brute_force_distances(query, reference, metric), 9)
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return {(int(source), target) for target, row in enumerate(order) for source in row}


def as_set(edges: dict[Any, Array], relation: str) -> set[Any]:
    return {(int(source), int(target)) for source, target in edges["row", relation, "row"].T}


def knn(reference: Any, query: Any, k: int, metric: Any = "cosine") -> Array:
    return KNNGraph(k, metric).fit({"m": reference}).edges({"m": query})["row", "knn_m", "row"]


small_numbers = st.integers(-2, 2).map(float)
METRICS = ["cosine", "euclidean", "manhattan"]
# scikit-learn searches few columns with a tree, and many with matrix products.
FORMS = {
    "narrow": lambda X: X,
    "wide": lambda X: np.tile(X, (1, 7)),
    "sparse": lambda X: sparse.csr_array(X),
}


def rows(width: int = 3) -> st.SearchStrategy[Array]:
    """One to twelve rows of few values: many repeated rows, rows of zeros, equal distances."""
    shapes = st.tuples(st.integers(1, 12), st.just(width))
    return hnp.arrays(np.float64, shapes, elements=small_numbers)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_neighbors_equal_brute_force(metric: str, form: Any) -> None:
    rng = np.random.default_rng(0)
    reference, query = rng.normal(size=(60, 20)), rng.normal(size=(30, 20))
    edges = KNNGraph(7, metric).fit({"m": form(reference)}).edges({"m": form(query)})
    assert as_set(edges, "knn_m") == brute_force_neighbors(query, reference, 7, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("form", FORMS)
@given(reference=rows(), query=rows(), k=st.integers(1, 14))
def test_neighbors_equal_brute_force_with_ties_and_few_rows(
    metric: str, form: str, reference: Array, query: Array, k: int
) -> None:
    pairs = knn(FORMS[form](reference), FORMS[form](query), k, metric)
    assert set(map(tuple, pairs.T.tolist())) == brute_force_neighbors(query, reference, k, metric)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("form", FORMS)
@given(reference=rows(), query=rows(), radius=st.sampled_from([0.0, 0.4, 1.0, 2.0]))
def test_rows_within_a_radius_equal_brute_force(
    metric: str, form: str, reference: Array, query: Array, radius: float
) -> None:
    fitted = RadiusGraph(radius, metric).fit({"m": FORMS[form](reference)})
    edges = fitted.edges({"m": FORMS[form](query)})
    if form == "wide":
        query, reference = FORMS[form](query), FORMS[form](reference)
    is_near = brute_force_distances(query, reference, metric) <= radius + 1e-9
    expected = {(source, target) for target, source in np.argwhere(is_near).tolist()}
    assert as_set(edges, "radius_m") == expected


@pytest.mark.parametrize("form", FORMS)
@given(reference=rows(), query=rows(), k=st.integers(1, 5), data=st.data())
def test_the_edges_of_a_row_do_not_depend_on_the_other_rows(
    form: str, reference: Array, query: Array, k: int, data: st.DataObject
) -> None:
    reference, query = FORMS[form](reference), FORMS[form](query)
    order = data.draw(st.permutations(range(query.shape[0])))
    part = order[: data.draw(st.integers(1, query.shape[0]))]
    together = knn(reference, query, k)
    alone = knn(reference, query[part], k)
    for position, row in enumerate(part):
        np.testing.assert_array_equal(
            alone[0, alone[1] == position], together[0, together[1] == row]
        )


@pytest.mark.parametrize("metric", sorted(_METRICS - {"haversine"}))
def test_every_metric_gives_each_row_the_same_edges_alone_and_together(metric: str) -> None:
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(size=(40, 3)), 1)
    X[3], X[7], X[9] = 0.0, X[5], np.nan
    together = knn(X, X, 4, metric)
    for row in (3, 5, 7, 9, 20):
        np.testing.assert_array_equal(
            knn(X, X[[row]], 4, metric)[0], together[0, together[1] == row]
        )


@pytest.mark.parametrize("n_features", [3, 40])
def test_the_fast_path_agrees_with_all_distances(n_features: int) -> None:
    X, _ = make_blobs(300, n_features, random_state=0)
    X[150:160] = X[7]
    points = Points.place(X, X, "cosine")
    np.testing.assert_array_equal(
        _sorted(find_nearest(points, 5)), _sorted(_find_nearest_of_all(points, 5))
    )


def _sorted(pairs: Array) -> Array:
    return pairs[:, np.lexsort(pairs)]


def test_distances_are_exact_far_from_the_origin() -> None:
    steps = np.arange(30.0)[:, None] * np.ones((1, 20))
    edges = knn(steps + 1e7, steps + 1e7, 1, "euclidean")
    np.testing.assert_array_equal(edges[0], np.arange(30))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_very_large_and_very_small_rows_have_a_direction(form: Any) -> None:
    X = form(np.array([[1e200, 0.0], [0.0, 1e-200], [5e-324, 0.0], [0.0, 1e300]]))
    assert knn(X, X, 2).tolist() == [[0, 2, 1, 3, 0, 2, 1, 3], [0, 0, 1, 1, 2, 2, 3, 3]]


def test_a_row_of_zeros_is_no_nearer_than_an_orthogonal_row() -> None:
    X = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.1, 0.0]])
    edges = RadiusGraph(0.5).fit({"m": X}).edges({"m": X})
    assert as_set(edges, "radius_m") == {(0, 0), (3, 0), (1, 1), (2, 2), (0, 3), (3, 3)}


def test_a_row_of_fit_is_its_own_neighbor() -> None:
    X = np.random.default_rng(0).normal(size=(20, 4))
    pairs = knn(X, X, 3)
    assert {(i, i) for i in range(20)} <= {tuple(pair) for pair in pairs.T.tolist()}


def test_edges_are_sorted_by_destination_then_source() -> None:
    X = np.random.default_rng(0).normal(size=(20, 4))
    pairs = knn(X, X[::-1], 3)
    np.testing.assert_array_equal(pairs, _sorted(pairs))
    assert pairs.dtype == np.int64


def test_ids_are_those_of_all_fitted_rows_when_some_are_missing() -> None:
    X = np.array([[np.nan, np.nan], [1.0, 0.0], [np.nan, np.nan], [0.0, 1.0]])
    assert knn(X, [[0.0, 2.0], [np.nan, np.nan], [3.0, 0.0]], 1).tolist() == [[3, 1], [0, 2]]


def test_a_row_that_lacks_a_modality_has_edges_in_the_others() -> None:
    blocks = {
        "image": np.array([[1.0, 0.0], [np.nan, np.nan], [0.0, 1.0]]),
        "text": sparse.csr_array(np.eye(3)),
    }
    present = {"text": np.array([True, True, False])}
    edges = KNNGraph(3).fit(blocks, present).edges(blocks, present)
    assert as_set(edges, "knn_image") == {(0, 0), (2, 0), (0, 2), (2, 2)}
    assert as_set(edges, "knn_text") == {(0, 0), (1, 0), (0, 1), (1, 1)}


def test_nan_rows_and_a_mask_are_combined() -> None:
    X = np.array([[1.0], [np.nan], [2.0]])
    fitted = KNNGraph(3).fit({"m": X}, {"m": np.array([True, True, False])})
    assert fitted.present["m"].tolist() == [True, False, False]


def test_no_fitted_row_with_the_modality_gives_no_edges() -> None:
    nothing = np.full((2, 3), np.nan)
    assert knn(nothing, np.ones((4, 3)), 2).shape == (2, 0)
    assert knn(np.ones((4, 3)), nothing, 2).shape == (2, 0)
    radius = RadiusGraph().fit({"m": nothing}).edges({"m": nothing})
    assert radius["row", "radius_m", "row"].shape == (2, 0)


def test_union_holds_each_edge_of_the_modalities_once() -> None:
    rng = np.random.default_rng(0)
    blocks = {"a": rng.normal(size=(15, 3)), "b": rng.normal(size=(15, 2))}
    apart = KNNGraph(3).fit(blocks).edges(blocks)
    union = KNNGraph(3, combine="union").fit(blocks).edges(blocks)
    assert list(apart) == [("row", "knn_a", "row"), ("row", "knn_b", "row")]
    assert list(union) == [("row", "knn", "row")]
    assert as_set(union, "knn") == as_set(apart, "knn_a") | as_set(apart, "knn_b")
    pairs = union["row", "knn", "row"]
    assert len(as_set(union, "knn")) == pairs.shape[1]
    np.testing.assert_array_equal(pairs, _sorted(pairs))


def test_concat_searches_the_columns_side_by_side() -> None:
    rng = np.random.default_rng(0)
    blocks = {"a": rng.normal(size=(15, 3)), "b": rng.normal(size=(15, 2))}
    edges = KNNGraph(4, "euclidean", combine="concat").fit(blocks).edges(blocks)
    stacked = np.hstack(list(blocks.values()))
    assert as_set(edges, "knn") == brute_force_neighbors(stacked, stacked, 4, "euclidean")


def test_concat_leaves_out_rows_that_lack_a_modality() -> None:
    blocks = {"a": np.array([[1.0], [2.0], [np.nan]]), "b": sparse.csr_array(np.eye(3))}
    edges = KNNGraph(3, combine="concat").fit(blocks).edges(blocks)
    assert as_set(edges, "knn") == {(0, 0), (1, 0), (0, 1), (1, 1)}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.int8, np.uint8, bool])
def test_features_of_any_dtype_give_the_neighbors_of_their_float64_values(dtype: Any) -> None:
    X = np.random.default_rng(0).integers(0, 2 if dtype is bool else 50, size=(30, 8)).astype(dtype)
    np.testing.assert_array_equal(knn(X, X, 4), knn(X.astype(float), X.astype(float), 4))


def test_a_query_may_be_dense_where_the_fitted_rows_are_sparse_and_the_reverse() -> None:
    X = np.random.default_rng(0).integers(0, 3, size=(20, 6))
    expected = knn(X, X, 4)
    np.testing.assert_array_equal(knn(sparse.csr_array(X), X, 4), expected)
    np.testing.assert_array_equal(knn(X, sparse.csr_array(X), 4), expected)


def test_a_callable_metric_need_not_obey_the_triangle_inequality() -> None:
    X = np.random.default_rng(0).normal(size=(50, 2))

    def squared(a: Array, b: Array) -> float:
        return float(((a - b) ** 2).sum())

    np.testing.assert_array_equal(knn(X, X, 4, squared), knn(X, X, 4, "euclidean"))


def test_read_only_features_are_accepted() -> None:
    X = np.random.default_rng(0).normal(size=(20, 20))
    X.setflags(write=False)
    assert knn(X, X, 2).shape == (2, 40)


def test_a_spec_clones_and_its_fitted_form_pickles() -> None:
    spec = KNNGraph(3, "euclidean", "union")
    assert clone(spec).get_params() == spec.get_params()
    X = np.random.default_rng(0).normal(size=(20, 3))
    fitted = spec.fit({"m": X})
    spec.set_params(n_neighbors=9)
    again = pickle.loads(pickle.dumps(fitted))
    edges = again.edges({"m": X})["row", "knn", "row"]
    assert edges.shape == (2, 60)


def test_modalities_that_are_not_those_of_fit_raise_with_a_diff() -> None:
    fitted = KNNGraph().fit({"image": np.ones((3, 8)), "text": np.ones((3, 5))})
    message = (
        "Modalities passed to fit and to edges differ:\n- image: 8 features\n"
        "~ text: 5 features -> 7 features\n\\+ sound: 2 features"
    )
    with pytest.raises(ValueError, match=message):
        fitted.edges({"text": np.ones((1, 7)), "sound": np.ones((1, 2))})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (KNNGraph(0), "The 'n_neighbors' parameter of KNNGraph must be an int"),
        (KNNGraph(metric="cosin"), "The 'metric' parameter of KNNGraph"),
        (KNNGraph(metric="mahalanobis"), "The 'metric' parameter of KNNGraph"),
        (KNNGraph(combine="mean"), "The 'combine' parameter of KNNGraph"),
        (RadiusGraph(-1.0), "The 'radius' parameter of RadiusGraph must be a float"),
    ],
)
def test_parameters_out_of_range_raise(spec: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        spec.fit({"m": np.ones((3, 2))})


def test_partly_missing_rows_raise_and_name_the_relation() -> None:
    with pytest.raises(ValueError, match=r"'knn_m' are partly NaN. Impute"):
        knn([[1.0, np.nan], [1.0, 2.0]], [[1.0, 1.0]], 1)


def test_data_frames_with_rows_in_another_order_raise() -> None:
    frame = pd.DataFrame(np.eye(3), index=["a", "b", "c"])
    with pytest.raises(ValueError, match="must have the same index"):
        KNNGraph().fit({"x": frame, "y": frame[::-1]})


def test_infinite_values_raise() -> None:
    with pytest.raises(
        ValueError, match="'m' must have finite values, got an infinite one in row 1"
    ):
        knn([[1.0], [np.inf]], [[1.0]], 1)


@pytest.mark.parametrize(
    ("present", "message"),
    [
        ({"m": [True]}, "must be an array of booleans of shape"),
        ({"m": [1, 0, 1]}, "must be an array of booleans of shape"),
        ({"n": [True] * 3}, "present must name modalities of"),
    ],
)
def test_a_wrong_mask_raises(present: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        KNNGraph().fit({"m": np.ones((3, 2))}, present)


def test_a_metric_that_cannot_compare_sparse_rows_raises() -> None:
    with pytest.raises(ValueError, match=r"'m' is sparse, .*got 'chebyshev'. Reduce"):
        KNNGraph(metric="chebyshev").fit({"m": sparse.csr_array(np.eye(3))})


def test_nothing_warns_on_boolean_metrics() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert knn(np.eye(4), np.eye(4), 2, "jaccard").shape == (2, 8)
