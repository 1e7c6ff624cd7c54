"""NodeEmbedder: nodes become rows of numbers, with labels and without."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.cluster import KMeans
from sklearn.ensemble import BaggingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import Bunch

from skmmg import MultiModalGraph, MultiModalGraphClassifier, NodeEmbedder, NodeView

Params = dict[str, Any]


def test_without_labels_it_learns_by_infomax(X: NodeView, params: Params) -> None:
    embedder = NodeEmbedder(**params).fit(X)

    assert embedder.objective_ == "infomax"
    assert {"train_loss", "train_bce", "train_acc"} <= set(embedder.history_[0])
    assert embedder.transform(X).shape == (60, 8)
    assert list(embedder.get_feature_names_out()[:2]) == ["nodeembedder0", "nodeembedder1"]


def test_with_labels_it_learns_what_the_classifier_learns(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    embedder = NodeEmbedder(**params).fit(X, y)
    clf = MultiModalGraphClassifier(**params).fit(X, y)

    assert embedder.objective_ == "classification"
    assert_array_equal(embedder.transform(X), clf.transform(X))
    assert_array_equal(NodeEmbedder(**params).fit_transform(X, y), clf.transform(X))


def test_labels_are_not_looked_at_where_infomax_is_asked_for(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    embedder = NodeEmbedder(objective="infomax", **params)

    assert_array_equal(embedder.fit(X, y).transform(X), embedder.fit(X).transform(X))


def test_classification_without_labels_is_an_error(X: NodeView, params: Params) -> None:
    with pytest.raises(ValueError, match=r"needs y, got None\. Pass the classes"):
        NodeEmbedder(objective="classification", **params).fit(X)


def test_embeddings_are_clustered(params: Params) -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 20)
    x = rng.normal(size=(40, 6)) + 6.0 * groups[:, None]
    edges = np.array([(i, (i + 1) % 20 + 20 * g) for i, g in enumerate(groups)]).T
    X = MultiModalGraph({"x": x}, {"near": edges}).nodes()

    found = make_pipeline(
        NodeEmbedder(**params | {"max_epochs": 20}), KMeans(2, n_init=3, random_state=0)
    ).fit_predict(X)

    assert adjusted_rand_score(groups, found) > 0.9


def test_embeddings_are_classified_in_a_cross_validation(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    model = make_pipeline(NodeEmbedder(**params | {"max_epochs": 20}), LogisticRegression())

    assert cross_val_score(model, X, y, cv=3).mean() > 0.6


def test_tools_that_need_columns_take_embeddings(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    bagging = BaggingClassifier(LogisticRegression(), n_estimators=3, random_state=0)

    model = make_pipeline(NodeEmbedder(**params), bagging).fit(X[:40], y[:40])

    assert model.predict(X[40:]).shape == (20,)


def test_rows_are_embedded_in_their_own_dtype(rows: Bunch, params: Params) -> None:
    embedder = NodeEmbedder(**params).fit(rows.data)

    assert embedder.transform(rows.data).dtype == np.float64
    assert embedder.transform(rows.data.astype(np.float32)).dtype == np.float32
    assert embedder.transform(rows.data.tolist()).shape == (60, 8)


def test_new_nodes_and_rows_are_embedded(X: NodeView, rows: Bunch, params: Params) -> None:
    on_nodes = NodeEmbedder(setting="inductive", **params).fit(X[:40])
    on_rows = NodeEmbedder(**params).fit(rows.data[:40])

    assert np.isfinite(on_nodes.transform(X[40:])).all()
    alone = np.vstack([on_rows.transform(row[None]) for row in rows.data[40:45]])
    assert_allclose(alone, on_rows.transform(rows.data[40:45]), rtol=1e-9)


@pytest.mark.parametrize("labelled", [True, False])
def test_held_out_features_do_not_reach_the_weights_in_the_inductive_setting(
    labelled: bool, X: NodeView, y: np.ndarray, params: Params
) -> None:
    graph = X.graph
    other = {m: np.vstack([x[:40], x[40:] + 3]) for m, x in graph.x["item"].items()}
    views = X, graph.with_features({"item": other}).nodes("item")
    label = y[:40] if labelled else None

    for setting, same in (("inductive", True), ("transductive", False)):
        first, second = (NodeEmbedder(setting=setting, **params).fit(v[:40], label) for v in views)
        agree = all(np.array_equal(w, second.weights_[k]) for k, w in first.weights_.items())
        assert agree is same


def test_a_pickle_keeps_the_embedding_and_the_parameters_work(X: NodeView, params: Params) -> None:
    embedder = NodeEmbedder(**params).fit(X)
    loaded = pickle.loads(pickle.dumps(embedder))

    assert_array_equal(loaded.transform(X), embedder.transform(X))
    assert loaded.get_params()["model__hidden_channels"] == 8


def test_output_can_be_a_data_frame(X: NodeView, params: Params) -> None:
    frame = NodeEmbedder(**params).set_output(transform="pandas").fit_transform(X)

    assert list(frame)[:2] == ["nodeembedder0", "nodeembedder1"]
    assert frame.shape == (60, 8)


def test_training_stops_when_the_loss_does_not_get_better(X: NodeView, params: Params) -> None:
    settings = params | {"max_epochs": 80, "lr": 0.3, "n_iter_no_change": 2}

    embedder = NodeEmbedder(**settings).fit(X)

    losses = [row["train_loss"] for row in embedder.history_]
    assert embedder.n_iter_ < 80
    assert embedder.best_epoch_ == int(np.argmin(losses)) + 1


def test_infomax_has_no_accuracy_to_stop_on(X: NodeView, params: Params) -> None:
    embedder = NodeEmbedder(objective="infomax", early_stopping="accuracy", **params)

    with pytest.raises(ValueError, match="has to be a bool or \"loss\", got 'accuracy'"):
        embedder.fit(X)


def test_weights_of_samples_need_labels(X: NodeView, y: np.ndarray, params: Params) -> None:
    with pytest.raises(ValueError, match="'infomax' looks at no labels and takes no sample_weight"):
        NodeEmbedder(**params).fit(X, sample_weight=np.ones(60))
    with pytest.raises(ValueError, match="'self_supervised' looks at no labels"):
        NodeEmbedder("shgp").fit(X, y, sample_weight=np.ones(60))


def test_a_second_fit_without_labels_forgets_the_classes(X: NodeView, y: np.ndarray) -> None:
    embedder = NodeEmbedder("mlp", max_epochs=1, random_state=0).fit(X, y)

    assert not hasattr(embedder.fit(X), "classes_")
