"""NodeView: nodes in focus, taken by scikit-learn as X."""

from __future__ import annotations

import pickle
import weakref
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import BaggingClassifier
from sklearn.impute import SimpleImputer
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    train_test_split,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import resample, shuffle

from skmmg.graph import MultiModalGraph, NodeView

N = 30
LABELS = np.arange(N) % 3


@pytest.fixture
def graph() -> MultiModalGraph:
    image = np.arange(N * 2, dtype=np.float64).reshape(N, 2)
    image[4] = np.nan
    text = sparse.random_array((N, 6), density=0.3, rng=0, format="csr")
    return MultiModalGraph(
        {"movie": {"image": image, "text": text}, "actor": 5},
        {("movie", "stars", "actor"): np.stack([np.arange(N), np.arange(N) % 5])},
    )


@pytest.fixture
def X(graph: MultiModalGraph) -> NodeView:
    return graph.nodes("movie")


class NearestCentroidOfImages(ClassifierMixin, BaseEstimator):
    """A small classifier that takes views: the class whose mean image is nearest."""

    def __init__(self, column: int = 0) -> None:
        self.column = column

    def fit(self, X: NodeView, y: Any) -> NearestCentroidOfImages:
        values = self._values(X)
        self.classes_ = np.unique(y)
        self.means_ = np.array([np.nanmean(values[y == c]) for c in self.classes_])
        return self

    def predict(self, X: NodeView) -> Any:
        distances = np.abs(np.nan_to_num(self._values(X))[:, None] - self.means_)
        return self.classes_[distances.argmin(axis=1)]

    def _values(self, X: NodeView) -> Any:
        return X.graph.x[X.node_type]["image"][X.ids, self.column]


# ---------------------------------------------------------------------------------------- slicing


def test_a_view_has_the_shape_of_a_list_of_nodes(X: NodeView) -> None:
    assert len(X) == N
    assert X.shape == (N,)
    assert not hasattr(X, "dtype")
    assert not hasattr(X, "iloc")


@pytest.mark.parametrize(
    ("key", "ids"),
    [
        ([3, 1, 1], [3, 1, 1]),
        (np.array([-1, 0]), [29, 0]),
        (np.array([2], dtype=np.uint8), [2]),
        (slice(2, 8, 3), [2, 5]),
        (slice(None, None, -15), [29, 14]),
        (np.arange(N) == 7, [7]),
        (pd.Series(np.arange(N) == 7), [7]),
        (pd.Index([5, 6]), [5, 6]),
        (([4, 2], Ellipsis), [4, 2]),
        (([4, 2], slice(None)), [4, 2]),
        ((slice(0, 2), Ellipsis), [0, 1]),
        ([], []),
        (np.zeros(N, dtype=bool), []),
    ],
)
def test_a_slice_of_a_view_is_a_view(X: NodeView, key: Any, ids: list[int]) -> None:
    part = X[key]
    assert isinstance(part, NodeView)
    assert part.ids.tolist() == ids
    assert part.graph is X.graph


def test_an_ellipsis_is_the_whole_view(X: NodeView) -> None:
    assert X[...].ids.tolist() == X[..., :].ids.tolist() == list(range(N))


def test_a_slice_counts_positions_and_not_ids(X: NodeView) -> None:
    part = X[[20, 10, 5]]
    assert part[[2, 0]].ids.tolist() == [5, 20]
    assert part[np.array([True, False, True])].ids.tolist() == [20, 5]


def test_an_integer_gives_the_record_of_a_node(X: NodeView) -> None:
    for key in (3, np.int64(3), np.array(3), (3, Ellipsis), 3 - N):
        record = X[key]
        assert list(record) == ["image", "text"]
        assert record["image"].tolist() == [6, 7]
        assert record["text"].shape == (1, 6)
        assert np.array_equal(record["text"].toarray(), X.graph.x["movie"]["text"][[3]].toarray())


def test_iterating_gives_records(X: NodeView) -> None:
    records = list(X[[2, 0]])
    assert [record["image"].tolist() for record in records] == [[4, 5], [0, 1]]


def test_a_node_without_features_has_an_empty_record(graph: MultiModalGraph) -> None:
    assert graph.nodes("actor")[0] == {}


@pytest.mark.parametrize("key", [N, -N - 1, [N], [-N - 1], [True, False]])
def test_positions_that_are_not_there_are_an_error(X: NodeView, key: Any) -> None:
    with pytest.raises(IndexError, match="30"):
        X[key]


@pytest.mark.parametrize("key", [True, 1.0, "movie", None, [1.5], [[1]], ["a"]])
def test_keys_that_are_no_positions_are_an_error_that_says_how_to_select(
    X: NodeView, key: Any
) -> None:
    with pytest.raises(TypeError, match=r"indexed by positions .*, got .*graph.x\[type\]"):
        X[key]


@pytest.mark.parametrize("key", [(slice(None), [0]), ([0], 1), (Ellipsis, 0), ()])
def test_columns_are_an_error_that_names_the_ways_out(X: NodeView, key: Any) -> None:
    with pytest.raises(TypeError, match=r"ModalityTransformer.*NodeEmbedder"):
        X[key]


def test_two_positions_without_a_list_are_an_error_that_writes_the_list(X: NodeView) -> None:
    with pytest.raises(TypeError, match=r"got \(1, 2\)\. .* positions are a list: X\[\[1, 2\]\]"):
        X[1, 2]


def test_views_that_are_concatenated_are_an_error_that_names_the_way(X: NodeView) -> None:
    with pytest.raises(TypeError, match=r"joined by graph\.nodes\(type, ids\)"):
        np.concatenate([X[:3], X[5:7]])  # type: ignore[arg-type]


def test_a_view_of_some_nodes_is_made_from_ids_masks_and_slices(graph: MultiModalGraph) -> None:
    mask = np.zeros(N, dtype=bool)
    mask[[4, 2]] = True
    assert graph.nodes("movie", [4, 2, 4]).ids.tolist() == [4, 2, 4]
    assert graph.nodes("movie", mask).ids.tolist() == [2, 4]
    assert graph.nodes("movie", slice(2)).ids.tolist() == [0, 1]
    assert graph.nodes("movie", []).shape == (0,)


@pytest.mark.parametrize("ids", [[N], [-1], [0.0], ["tt1"], [True], [[0]], 3])
def test_ids_that_are_not_in_the_graph_are_an_error(graph: MultiModalGraph, ids: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="movie"):
        graph.nodes("movie", ids)


def test_ids_are_private_and_read_only(graph: MultiModalGraph) -> None:
    given = np.array([1, 2])
    view = graph.nodes("movie", given)
    given[0] = 9
    assert view.ids.tolist() == [1, 2]
    for ids in (view.ids, view[:1].ids, view[[0]].ids):
        with pytest.raises(ValueError, match="read-only"):
            ids[0] = 3


# ---------------------------------------------------------------------------------- what it tells


def test_the_schema_of_a_view_has_its_target(X: NodeView) -> None:
    assert X.schema.target == "movie"
    assert X.schema.modalities == ("image", "text")
    assert X.graph.schema.target is None


def test_presence_is_that_of_the_nodes_in_the_view(X: NodeView) -> None:
    assert X[[4, 5, 4]].present("image").tolist() == [False, True, False]


def test_the_repr_fits_on_a_line(graph: MultiModalGraph, X: NodeView) -> None:
    assert repr(X[:2]) == "NodeView(2 of 30 'movie' nodes: image (2), text (6, sparse))"
    assert repr(graph.nodes("actor")) == "NodeView(5 of 5 'actor' nodes: no features)"
    assert "NodeView(30 of 30" in X._repr_html_()
    assert X._repr_html_().count("<table") == 2


def test_views_are_compared_by_identity(X: NodeView) -> None:
    assert len({X, X, X[:]}) == 2
    assert weakref.ref(X)() is X


def test_a_view_cannot_be_changed(X: NodeView) -> None:
    with pytest.raises(AttributeError):
        X.node_type = "actor"  # type: ignore[misc]


# ---------------------------------------------------------------------------------- in scikit-learn


def test_a_view_is_no_array_and_says_what_to_do(X: NodeView) -> None:
    message = (
        r"needs a 2-D X.* got a NodeView.* scales, .* write ModalityTransformer\(step\).*"
        r"make_pipeline\(NodeEmbedder\(\), step\)"
    )
    fits = StandardScaler().fit, SimpleImputer().fit, lambda x: LogisticRegression().fit(x, LABELS)
    for use in (np.asarray, np.array, *fits):
        with pytest.raises(TypeError, match=message):
            use(X)


def test_train_test_split_splits_a_view(X: NodeView) -> None:
    X_train, X_test, y_train, y_test = train_test_split(
        X, LABELS, test_size=0.3, stratify=LABELS, random_state=0
    )
    assert isinstance(X_train, NodeView)
    assert np.array_equal(X_train.ids % 3, y_train)
    assert np.array_equal(X_test.ids % 3, y_test)
    assert sorted([*X_train.ids, *X_test.ids]) == list(range(N))


@pytest.mark.parametrize("estimator", [DummyClassifier(), NearestCentroidOfImages()])
def test_stratified_cross_validation_runs_on_a_view(X: NodeView, estimator: Any) -> None:
    scores = cross_val_score(estimator, X, LABELS, cv=StratifiedKFold(3))
    assert scores.shape == (3,)
    assert np.isfinite(scores).all()


@pytest.mark.parametrize("splitter", [GroupKFold(3), StratifiedGroupKFold(3)])
def test_grouped_cross_validation_runs_on_a_view(X: NodeView, splitter: Any) -> None:
    groups = np.arange(N) // 3
    result = cross_validate(
        NearestCentroidOfImages(), X, LABELS, groups=groups, cv=splitter, return_indices=True
    )
    for train, test in zip(*result["indices"].values(), strict=True):
        assert not set(groups[X[train].ids]) & set(groups[X[test].ids])


def test_a_grid_search_over_two_processes_runs_on_a_view(X: NodeView) -> None:
    search = GridSearchCV(NearestCentroidOfImages(), {"column": [0, 1]}, cv=3, n_jobs=2)
    assert search.fit(X[:], LABELS).predict(X[:4]).shape == (4,)


def test_predictions_of_a_cross_validation_are_in_the_order_of_the_view(X: NodeView) -> None:
    order = np.random.default_rng(0).permutation(N)
    folds = [(np.arange(10, N), np.arange(10)), (np.arange(20), np.arange(20, N))]
    folds.append((np.r_[:10, 20:N], np.arange(10, 20)))
    straight = cross_val_predict(NearestCentroidOfImages(), X, LABELS, cv=folds)
    shuffled = [
        (np.flatnonzero(np.isin(order, a)), np.flatnonzero(np.isin(order, b))) for a, b in folds
    ]
    permuted = cross_val_predict(NearestCentroidOfImages(), X[order], LABELS[order], cv=shuffled)
    assert np.array_equal(permuted, straight[order])


def test_pipelines_curves_and_resampling_take_a_view(X: NodeView) -> None:
    model = Pipeline([("model", NearestCentroidOfImages())])
    sizes, _, scores = learning_curve(model, X, LABELS, cv=3, train_sizes=[6, 12])
    assert sizes.tolist() == [6, 12]
    assert np.isfinite(scores).all()
    assert len(resample(X, n_samples=7, random_state=0)) == 7
    assert sorted(shuffle(X, random_state=0).ids) == list(range(N))
    assert OneVsRestClassifier(DummyClassifier()).fit(X, LABELS).predict(X).shape == (N,)


@pytest.mark.parametrize(
    "use",
    [
        lambda X, y: BaggingClassifier(NearestCentroidOfImages()).fit(X, y),
        lambda X, y: OneVsOneClassifier(NearestCentroidOfImages()).fit(X, y),
        lambda X, y: permutation_importance(NearestCentroidOfImages().fit(X, y), X, y),
    ],
)
def test_tools_that_need_columns_name_the_ways_out(X: NodeView, use: Any) -> None:
    with pytest.raises(TypeError, match=r"NodeEmbedder\(\).*VotingClassifier.*with_features"):
        use(X, LABELS)


@pytest.mark.parametrize(
    "use",
    [
        lambda X, y: ColumnTransformer([("scale", StandardScaler(), [0])]).fit(X, y),
        lambda X, y: partial_dependence(DummyClassifier().fit(X, y), X, [0]),
    ],
)
def test_tools_that_read_a_width_off_the_shape_end_in_an_error_of_their_own(
    X: NodeView, use: Any
) -> None:
    # they cannot name a way out, so docs/user_guide/graph.rst does
    with pytest.raises(IndexError, match="tuple index out of range"):
        use(X, LABELS)


# ----------------------------------------------------------------------------------------- pickles


@pytest.mark.parametrize("protocol", [2, 5])
def test_a_view_survives_pickling(X: NodeView, protocol: int) -> None:
    again = pickle.loads(pickle.dumps(X[[3, 1]], protocol=protocol))
    assert again.ids.tolist() == [3, 1]
    assert not again.ids.flags.writeable
    assert again[0]["image"].tolist() == [6, 7]
    assert again.schema == X.schema


def test_a_view_survives_joblib_as_memory_maps(X: NodeView, tmp_path: Path) -> None:
    joblib.dump(X, tmp_path / "view.joblib")
    again = joblib.load(tmp_path / "view.joblib", mmap_mode="r")
    assert isinstance(again.graph.x["movie"]["image"], np.memmap)
    assert cross_val_score(NearestCentroidOfImages(), again, LABELS, cv=3).shape == (3,)


def test_views_of_one_graph_are_pickled_with_one_graph(X: NodeView) -> None:
    first, second = pickle.loads(pickle.dumps((X[:10], X[10:])))
    assert first.graph is second.graph


def _is_memory_map(view: NodeView) -> bool:
    return isinstance(view.graph.x["node"]["x"], np.memmap)


def test_joblib_workers_get_large_features_as_memory_maps() -> None:
    X = MultiModalGraph({"x": np.ones((1000, 300))}).nodes()
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(_is_memory_map)(x) for x in (X, X[:5]))
    assert found == [True, True]
