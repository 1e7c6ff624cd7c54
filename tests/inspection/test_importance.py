"""modality_importance: whole modalities belong to the wrong samples, and the score tells."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skmmg import (
    CrossModalRetriever,
    ModalityTransformer,
    MultiModalGraph,
    MultiModalGraphClassifier,
    NodeView,
)
from skmmg.inspection import modality_importance

COLUMNS = {"text": slice(0, 2), "image": slice(2, 4)}


class Spy(ClassifierMixin, BaseEstimator):
    """Keeps what it is asked to predict for."""

    def fit(self, X: Any, y: Any) -> Spy:
        self.classes_, self.seen_ = np.unique(y), []
        return self

    def predict(self, X: Any) -> np.ndarray:
        self.seen_.append(X)
        return np.zeros(len(X.ids) if isinstance(X, NodeView) else X.shape[0], dtype=int)


def make_X(form: str) -> Any:
    X = np.arange(20.0).reshape(5, 4)
    if form == "pandas":
        frame = pd.DataFrame(X, columns=list("abcd"), index=list("vwxyz"))
        return frame.astype({"a": "Int64", "d": "float32"})
    return {"array": X, "polars": pl.DataFrame(X, schema=list("abcd")), "csc": sparse.csc_array(X)}[
        form
    ]


# -------------------------------------------------------------------------------- rows


@pytest.mark.parametrize("form", ["array", "pandas", "polars", "csc"])
def test_the_columns_of_a_modality_are_shuffled_together(form: str) -> None:
    X, y = make_X(form), np.zeros(5, dtype=int)
    spy = Spy().fit(X, y)
    modality_importance(spy, X, y, modalities=COLUMNS, n_repeats=3, random_state=0)

    original = np.arange(20.0).reshape(5, 4)
    assert len(spy.seen_) == 1 + 2 * 3
    changed = 0
    for i, seen in enumerate(spy.seen_[1:]):
        values = seen.toarray() if sparse.issparse(seen) else np.asarray(seen, dtype=float)
        moved = COLUMNS["text" if i < 3 else "image"]
        kept = COLUMNS["image" if i < 3 else "text"]
        assert_array_equal(values[:, kept], original[:, kept])
        assert_array_equal(np.sort(values[:, moved], axis=0), original[:, moved])
        assert_array_equal(np.diff(values[:, moved], axis=1), 1)  # rows stayed together
        changed += not np.array_equal(values, original)
        assert form != "pandas" or (seen.dtypes.equals(X.dtypes) and seen.index.equals(X.index))
    assert changed >= 4  # of 6, by chance


def test_with_one_column_per_modality_it_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 3))
    y = (X[:, 0] + 0.3 * X[:, 1] > 0).astype(int)
    clf = LogisticRegression().fit(X, y)
    columns = {"a": [0], "b": [1], "c": [2]}

    ours = modality_importance(
        clf, X, y, modalities=columns, scoring="roc_auc", n_repeats=200, random_state=0
    )
    theirs = permutation_importance(clf, X, y, scoring="roc_auc", n_repeats=200, random_state=1)

    assert list(ours) == ["a", "b", "c"]
    assert ours.shape == (200, 3)
    assert_allclose(ours.mean(), theirs.importances_mean, atol=0.02)
    assert_allclose(ours.std(), theirs.importances_std, atol=0.02)


def test_the_same_seed_gives_the_same_numbers() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 4))
    y = (X[:, 0] > 0).astype(int)
    clf = LogisticRegression().fit(X, y)
    one, same, other = (
        modality_importance(clf, X, y, modalities=COLUMNS, random_state=seed) for seed in (3, 3, 4)
    )
    pd.testing.assert_frame_equal(one, same)
    assert not one.equals(other)


def test_the_columns_of_the_estimator_are_taken() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    y = (X[:, 0] + X[:, 1] > 0).astype(int)
    clf = MultiModalGraphClassifier("mlp", modalities=COLUMNS, max_epochs=60, random_state=0)
    for estimator in (clf.fit(X, y), make_pipeline(clf).fit(X, y)):
        drops = modality_importance(estimator, X, y, random_state=0)
        assert list(drops) == ["text", "image"]
        assert drops["text"].mean() > 0.2 > drops["image"].mean()


# -------------------------------------------------------------------------------- views


def make_graph(seed: int = 0) -> tuple[NodeView, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(80) % 2
    text = rng.normal(size=(80, 3)) + 3 * y[:, None]
    text[rng.random(80) < 0.1] = np.nan
    image = sparse.csr_array(rng.normal(size=(80, 4)))
    graph = MultiModalGraph(
        {
            "item": {"text": pd.DataFrame(text, columns=list("abc")), "image": image},
            "shop": {"place": rng.normal(size=(10, 2))},
        },
        {("item", "in", "shop"): np.stack([np.arange(80), rng.integers(0, 10, size=80)])},
        masks={"item": {"image": rng.random(80) < 0.7}},
    )
    return graph.nodes("item"), y


def test_of_a_view_the_modalities_of_all_types_are_shuffled() -> None:
    X, y = make_graph()
    spy = Spy().fit(X, y)
    drops = modality_importance(spy, X[5:9], y[5:9], n_repeats=1, random_state=0)

    assert list(drops) == [("item", "text"), ("item", "image"), ("shop", "place")]
    assert drops.columns.names == ["node_type", "modality"]
    whole, *shuffled = spy.seen_
    assert whole.graph is X.graph
    for view, (node_type, modality) in zip(shuffled, drops, strict=True):
        assert view.ids.tolist() == [5, 6, 7, 8]
        for other, matrices in X.graph.x.items():
            for name, matrix in matrices.items():
                rows, before = (
                    m.toarray() if sparse.issparse(m) else m
                    for m in (view.graph.x[other][name], matrix)
                )
                present, was = view.graph.present(other, name), X.graph.present(other, name)
                if (other, name) != (node_type, modality):
                    assert rows is before or np.array_equal(rows, before)
                    assert_array_equal(present, was)
                    continue
                assert not np.array_equal(rows, before)
                assert present.sum() == was.sum()
                order = np.lexsort(rows[present].T), np.lexsort(before[was].T)
                assert_array_equal(rows[present][order[0]], before[was][order[1]])


@pytest.mark.parametrize("with_step", [False, True])
def test_the_modality_that_tells_the_label_is_found(with_step: bool) -> None:
    X, y = make_graph()
    clf = MultiModalGraphClassifier("hgnn_ima", max_epochs=40, random_state=0)
    scale = ModalityTransformer({("item", "text"): StandardScaler()})
    estimator = make_pipeline(scale, clf) if with_step else clf
    estimator.fit(X[:50], y[:50])

    drops = modality_importance(estimator, X[50:], y[50:], random_state=0)

    assert drops.mean().idxmax() == ("item", "text")
    assert drops["item", "text"].mean() > 0.2
    assert abs(drops["shop", "place"].mean()) < 0.15


def test_a_retriever_is_scored_by_its_own_score() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=(60, 3))
    noise = rng.normal(size=(60, 2))
    X = np.hstack([shared, shared + 0.1 * rng.normal(size=(60, 3)), noise])
    columns = {"text": slice(0, 3), "image": slice(3, 6), "sound": slice(6, 8)}
    retriever = CrossModalRetriever(
        "text", "image", model="dual_mlp", modalities=columns, max_epochs=40, random_state=0
    ).fit(X)

    drops = modality_importance(retriever, X, random_state=0).mean()

    assert drops["text"] > 0.1
    assert drops["image"] > 0.1
    assert drops["sound"] == 0


# -------------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "modalities must name the columns of every modality of X, got None"),
        ({"modalities": {"a": slice(0, 9)}}, "'a' has the columns slice"),
        ({"modalities": COLUMNS, "n_repeats": 0}, "n_repeats == 0, must be >= 1"),
        ({"modalities": COLUMNS, "scoring": ["accuracy", "f1"]}, "scoring must give one number"),
    ],
)
def test_what_does_not_fit_is_refused(options: Any, message: str) -> None:
    X = np.arange(20.0).reshape(5, 4)
    y = np.array([0, 1, 0, 1, 1])
    clf = LogisticRegression().fit(X, y)
    with pytest.raises((TypeError, ValueError), match=message):
        modality_importance(clf, X, y, **options)
    with pytest.raises(ValueError, match="X must be a NodeView or 2-D, got shape"):
        modality_importance(Spy().fit(X, y), X[:, :, None], y, modalities=COLUMNS)


def test_masked_rows_are_refused() -> None:
    X, y = np.ma.masked_less(np.arange(20.0).reshape(5, 4), 3), np.zeros(5, dtype=int)
    with pytest.raises(TypeError, match="X must not be a masked array"):
        modality_importance(Spy().fit(X, y), X, y, modalities=COLUMNS)


def test_a_view_has_modalities_of_its_own() -> None:
    X, y = make_graph()
    with pytest.raises(ValueError, match="modalities must be None, got"):
        modality_importance(Spy().fit(X, y), X, y, modalities=COLUMNS)


def test_a_step_before_may_change_columns_so_they_have_to_be_named() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(40, 4)), np.arange(40) % 2
    clf = MultiModalGraphClassifier("mlp", modalities=COLUMNS, max_epochs=2, early_stopping=False)
    pipeline = make_pipeline(StandardScaler(), clf).fit(X, y)
    with pytest.raises(ValueError, match="modalities must name"):
        modality_importance(pipeline, X, y)
    scorer = make_scorer(roc_auc_score, response_method="predict_proba")
    drops = modality_importance(pipeline, X, y, modalities=COLUMNS, scoring=scorer)
    assert drops.shape == (5, 2)
