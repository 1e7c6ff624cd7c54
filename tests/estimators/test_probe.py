"""Pretrain without labels, then fit any classifier of scikit-learn on the embedding."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ScoringMonitor
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from sklearn.utils import Bunch

from skmmg import MultiModalGraph, MultiModalGraphClassifier, NodeEmbedder, NodeView
from skmmg.models import HERO, SHGP
from skmmg.models._fusion import EARLY_FUSION

Params = dict[str, Any]


@pytest.fixture
def params() -> Params:
    spec = SHGP(hidden_channels=8, warmup_epochs=2, cluster_ratio=0.2)
    return {"model": spec, "max_epochs": 5, "lr": 0.02, "random_state": 0}


def test_the_probe_is_fitted_on_the_embedding_of_the_training_nodes(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    probe = LogisticRegression(C=10, max_iter=2000)
    clf = MultiModalGraphClassifier(probe=probe, **params).fit(X[:40], y[:40])

    Z = clf.transform(X).astype(np.float64)
    alone = clone(probe).fit(Z[:40], y[:40])
    assert_allclose(clf.probe_.coef_, alone.coef_)
    assert_array_equal(clf.predict(X), alone.predict(Z))
    assert_allclose(clf.predict_proba(X), alone.predict_proba(Z))
    assert_allclose(clf.predict_log_proba(X), alone.predict_log_proba(Z))
    assert clf.score(X[40:], y[40:]) == alone.score(Z[40:], y[40:])
    assert_array_equal(clf.classes_, alone.classes_)
    assert not hasattr(probe, "coef_")


def test_labels_do_not_reach_the_embedding(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params)
    Z = clf.fit(X[:40], y[:40]).transform(X)

    assert_array_equal(clf.fit(X[20:], 1 - (y[20:] > 0)).transform(X), Z)
    assert_array_equal(NodeEmbedder(**params).fit(X).transform(X), Z)
    assert_array_equal(NodeEmbedder(**params).fit(X[:9], y[:9]).transform(X), Z)


def test_without_a_probe_it_is_a_logistic_regression(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params).fit(X, y)

    assert isinstance(clf.probe_, Pipeline)
    assert isinstance(clf.probe_[-1], LogisticRegression)
    assert_allclose(clf.predict_proba(X).sum(1), 1)


def test_labels_may_be_words(X: NodeView, y: np.ndarray, params: Params) -> None:
    words = np.array(["drama", "comedy", "action"])[y]

    clf = MultiModalGraphClassifier(**params).fit(X, words)

    assert set(clf.predict(X)) <= set(words)
    assert list(clf.classes_) == ["action", "comedy", "drama"]


def test_a_probe_without_probabilities_has_none_to_give(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(probe=RidgeClassifier(), **params)
    assert not hasattr(clf, "predict_proba")

    clf.fit(X, y)

    assert clf.predict(X).shape == (60,)
    with pytest.raises(AttributeError, match="has no attribute 'predict_proba'"):
        clf.predict_proba(X)
    assert hasattr(clf.set_params(probe=None), "fit")
    assert hasattr(MultiModalGraphClassifier(**params), "predict_log_proba")


def test_a_probe_without_probabilities_is_ranked_and_calibrated(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(probe=LinearSVC(dual=False), **params)
    scores = cross_val_score(clf, X, y == 0, cv=2, scoring="roc_auc", error_score="raise")
    calibrated = CalibratedClassifierCV(clf, cv=2).fit(X, y)

    clf.fit(X[:40], y[:40])

    assert (scores > 0).all()
    assert_allclose(calibrated.predict_proba(X).sum(1), 1)
    rows = clf.transform(X).astype(np.float64)
    assert_allclose(clf.decision_function(X), clf.probe_.decision_function(rows))


def test_scores_are_those_of_a_probe_that_has_some(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    def has_scores(**settings: Any) -> bool:
        return hasattr(MultiModalGraphClassifier(**params | settings), "decision_function")

    assert has_scores()
    assert has_scores(model="hero", probe=RidgeClassifier())
    assert not has_scores(probe=KNeighborsClassifier())
    for model in ("hgt", "hetgnn", "auto", "no model", SHGP, None):
        assert not has_scores(model=model, probe=RidgeClassifier())
    clf = MultiModalGraphClassifier(**params).fit(X, y)
    assert clf.decision_function(X).shape == (60, 3)
    clf.set_params(model="mlp").fit(X, y)
    assert not hasattr(clf, "decision_function")
    with pytest.raises(AttributeError, match="has no attribute 'decision_function'"):
        clf.set_params(**params).decision_function(X)


def test_a_model_that_is_trained_on_labels_takes_no_probe(X: NodeView, y: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"probe=LogisticRegression\(\) does not apply to model"):
        MultiModalGraphClassifier("hgt", probe=LogisticRegression()).fit(X, y)


def test_a_probe_is_an_estimator(X: NodeView, y: np.ndarray, params: Params) -> None:
    with pytest.raises(ValueError, match="The 'probe' parameter of MultiModalGraphClassifier"):
        MultiModalGraphClassifier(probe="logistic", **params).fit(X, y)


def test_what_watches_labels_is_refused(X: NodeView, y: np.ndarray, params: Params) -> None:
    with pytest.raises(ValueError, match="takes no X_val and y_val"):
        MultiModalGraphClassifier(**params).fit(X, y, X_val=X, y_val=y)
    with pytest.raises(ValueError, match="has to be a bool or \"loss\", got 'accuracy'"):
        MultiModalGraphClassifier(early_stopping="accuracy", **params).fit(X, y)


def test_weights_of_samples_go_to_the_probe(X: NodeView, y: np.ndarray, params: Params) -> None:
    weight = np.where(np.arange(60) < 30, 1.0, 0.0)
    kept = MultiModalGraphClassifier(probe=LogisticRegression(max_iter=2000), **params)
    half = clone(kept).fit(X[:30], y[:30])

    kept.fit(X, y, sample_weight=weight)

    assert_allclose(kept.predict_proba(X), half.predict_proba(X), atol=1e-3)
    piped = MultiModalGraphClassifier(**params).fit(X, y, sample_weight=weight)
    unweighted = MultiModalGraphClassifier(**params).fit(X, y)
    balanced = MultiModalGraphClassifier(class_weight={0: 9, 1: 1, 2: 1}, **params).fit(X, y)
    for other in (piped, balanced):
        assert np.abs(other.predict_proba(X) - unweighted.predict_proba(X)).max() > 1e-3


def test_weights_that_the_probe_cannot_take_are_an_error(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    for probe in (KNeighborsClassifier(), make_pipeline(StandardScaler(), KNeighborsClassifier())):
        clf = MultiModalGraphClassifier(probe=probe, **params)
        with pytest.raises(ValueError, match=r"the fit of KNeighborsClassifier\(\) takes no"):
            clf.fit(X, y, sample_weight=np.ones(60))


@pytest.mark.parametrize(
    "wrap", [lambda probe: probe, lambda probe: make_pipeline(StandardScaler(), probe)]
)
def test_weights_reach_the_probe_where_metadata_is_routed(
    wrap: Any, X: NodeView, y: np.ndarray, params: Params
) -> None:
    weight = np.where(y == 0, 9.0, 1.0)
    unrouted = MultiModalGraphClassifier(probe=wrap(LogisticRegression(max_iter=2000)), **params)
    unrouted.fit(X, y, sample_weight=weight)

    with config_context(enable_metadata_routing=True):
        for request in (None, False, True):
            probe = LogisticRegression(max_iter=2000).set_fit_request(sample_weight=request)
            routed = MultiModalGraphClassifier(probe=wrap(probe), **params)
            routed.fit(X, y, sample_weight=weight)
            assert_array_equal(routed.predict_proba(X), unrouted.predict_proba(X))
        MultiModalGraphClassifier(class_weight="balanced", **params).fit(X, y)


def test_parameters_of_the_probe_are_searched(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = MultiModalGraphClassifier(probe=LogisticRegression(max_iter=2000), **params)
    grid = {"probe__C": [0.1, 10.0], "model__num_layers": [1, 2]}

    search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(X, y)

    assert clf.get_params()["probe__C"] == 1.0
    assert search.best_params_["probe__C"] == search.best_estimator_.probe_.C


def test_parameters_of_a_probe_that_is_not_given_are_an_error_that_names_one(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params)

    with pytest.raises(
        ValueError, match=r"probe=None has .*, got probe__C\. Give the probe itself"
    ):
        GridSearchCV(clf, {"probe__C": [0.1, 10.0]}, cv=2).fit(X, y)
    probe = make_pipeline(StandardScaler(), LogisticRegression())
    clf.set_params(probe__logisticregression__C=0.1, probe=probe)
    assert clf.probe[-1].C == 0.1


def test_a_pickle_keeps_the_probe(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params).fit(X, y)

    loaded = pickle.loads(pickle.dumps(clf))

    assert_array_equal(loaded.predict_proba(X), clf.predict_proba(X))


class Refusing(LogisticRegression):
    """A probe whose fit fails."""

    def fit(self, X: Any, y: Any) -> Refusing:
        raise ValueError("no")


def test_a_fit_that_fails_leaves_the_probe_as_it_was(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    clf = MultiModalGraphClassifier(**params).fit(X, y)
    before = clf.predict_proba(X)
    clf.set_params(probe=Refusing())

    with pytest.raises(ValueError, match="no"):
        clf.fit(X[:30], y[:30])

    assert_array_equal(clf.predict_proba(X), before)


def test_another_model_drops_the_probe(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = MultiModalGraphClassifier(**params).fit(X, y)

    clf.set_params(model="mlp").fit(X, y)

    assert not hasattr(clf, "probe_")
    assert clf.predict(X).shape == (60,)


def test_a_warm_start_goes_on_from_the_weights(X: NodeView, y: np.ndarray, params: Params) -> None:
    clf = MultiModalGraphClassifier(warm_start=True, **params).fit(X, y)
    before = clf.weights_["nets.0.convs.0.self_weight"]

    clf.set_params(lr=1e-9, weight_decay=0.0).fit(X[:40], y[:40] > 0)

    assert_allclose(clf.weights_["nets.0.convs.0.self_weight"], before, atol=1e-6)
    assert list(clf.classes_) == [False, True]


def test_training_stops_when_its_own_loss_does_not_get_better(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    settings = params | {"max_epochs": 80, "lr": 0.5, "n_iter_no_change": 2}

    clf = MultiModalGraphClassifier(**settings).fit(X, y)

    losses = [row["train_loss"] for row in clf.history_]
    assert clf.n_iter_ < 80
    assert clf.best_epoch_ == int(np.argmin(losses)) + 1
    assert not any(name.startswith("valid") for name in clf.history_[0])


def test_rows_are_classified_one_by_one_as_together(rows: Bunch, params: Params) -> None:
    clf = MultiModalGraphClassifier(modalities=rows.modalities, **params | {"max_epochs": 20})
    clf.fit(rows.data[:40], rows.target[:40])

    alone = np.vstack([clf.predict_proba(row[None]) for row in rows.data[40:45]])

    assert_allclose(alone, clf.predict_proba(rows.data[40:45]), rtol=1e-9)
    assert cross_val_score(clf, rows.data, rows.target, cv=2).mean() > 0.6


def test_held_out_features_do_not_reach_the_weights_in_the_inductive_setting(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    graph = X.graph
    other = {m: np.vstack([x[:40], x[40:] + 3]) for m, x in graph.x["item"].items()}
    views = X, MultiModalGraph.with_features(graph, {"item": other}).nodes("item")

    for setting, same in (("inductive", True), ("transductive", False)):
        clf = MultiModalGraphClassifier(setting=setting, **params)
        first, second = (clone(clf).fit(view[:40], y[:40]).weights_ for view in views)
        agree = all(np.array_equal(w, second[k]) for k, w in first.items())
        assert agree is same


def test_callbacks_score_every_epoch(X: NodeView, y: np.ndarray, params: Params) -> None:
    monitor = ScoringMonitor(scoring="accuracy")
    clf = MultiModalGraphClassifier(**params).set_callbacks(monitor).fit(X, y)

    scores = monitor.get_logs().data_as_pandas.groupby("task_name")["accuracy"]

    assert scores.size()["epoch"] == clf.n_iter_
    assert scores.last()["fit"] == clf.score(X, y)


def test_objectives_that_do_not_fit_the_model_are_errors(
    X: NodeView, y: np.ndarray, params: Params
) -> None:
    with pytest.raises(ValueError, match="'classification' does not apply to model 'shgp'"):
        NodeEmbedder(objective="classification", **params).fit(X, y)
    with pytest.raises(ValueError, match="'self_supervised' does not apply to model 'hgt'"):
        NodeEmbedder("hgt", objective="self_supervised").fit(X)


def test_a_model_with_an_objective_of_its_own_may_be_trained_by_infomax(
    X: NodeView, params: Params
) -> None:
    assert NodeEmbedder(**params).fit(X).objective_ == "self_supervised"
    assert NodeEmbedder(objective="infomax", **params).fit(X).objective_ == "infomax"


@pytest.mark.parametrize("model", [SHGP, HERO])
@pytest.mark.parametrize("option", [*EARLY_FUSION, "late"])
def test_every_fusion_pretrains(model: type[SHGP] | type[HERO], option: str, X: NodeView) -> None:
    spec = model(hidden_channels=8, **({} if option == "late" else {"early_fusion": option}))
    fusion = "late" if option == "late" else "early"

    embedder = NodeEmbedder(spec, fusion=fusion, max_epochs=3, random_state=0).fit(X)

    assert np.isfinite([row["train_loss"] for row in embedder.history_]).all()
    width = (8 if model is SHGP else 16) * (2 if fusion == "late" else 1)
    assert embedder.transform(X).shape == (60, width)


@pytest.mark.parametrize("model", ["shgp", "hero"])
def test_a_model_that_needs_the_whole_graph_takes_no_batches(
    model: str, X: NodeView, y: np.ndarray
) -> None:
    with pytest.raises(ValueError, match=f"Model '{model}' needs the whole graph at once"):
        MultiModalGraphClassifier(model, batch_size=16).fit(X, y)
