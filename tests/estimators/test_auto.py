"""`model="auto"`: the winner of a cross-validation on the training samples."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, KFold, cross_val_score

from skmmg import AutoModel, MultiModalGraph, MultiModalGraphClassifier, stack_graphs
from skmmg.datasets import make_multimodal_graph
from skmmg.estimators import _auto
from skmmg.graph import Schema
from skmmg.models import HGT, MLP, MODELS
from skmmg.training import GraphNet

PLANTED = make_multimodal_graph(
    90, hops=1, signal=4.0, homophily=1.0, n_attributes=12, random_state=0
)
X, y = PLANTED.graph.nodes("item"), PLANTED.target


def make(**params: Any) -> MultiModalGraphClassifier:
    small = [
        MLP(hidden_channels=8, dropout=0.0, input_dropout=0.0),
        HGT(hidden_channels=8, heads=2, dropout=0.0, input_dropout=0.0),
    ]
    spec = AutoModel(**{"models": small, "cv": 2, "min_epochs": 5, **params})
    return MultiModalGraphClassifier(spec, max_epochs=20, lr=0.02, random_state=0)


def test_the_model_that_finds_the_label_one_hop_away_wins() -> None:
    clf = make().fit(X[:60], y[:60])

    assert clf.spec_.name == "hgt"
    assert clf.leaderboard_["model"][0] == "hgt"
    assert clf.leaderboard_["fusion"][0] == clf.fusion_
    assert clf.score(X[60:], y[60:]) > 0.6
    assert isinstance(clf.model, AutoModel)


def test_the_winner_is_what_a_fit_of_that_model_gives() -> None:
    clf = make().fit(X[:60], y[:60])

    direct = clone(clf).set_params(model=clf.spec_, fusion=clf.fusion_).fit(X[:60], y[:60])

    assert_array_equal(direct.predict_proba(X), clf.predict_proba(X))
    assert_array_equal(pickle.loads(pickle.dumps(clf)).predict(X), clf.predict(X))


def test_a_third_of_the_models_goes_on_with_three_times_the_epochs() -> None:
    clf = make(factor=2, min_epochs=5).fit(X[:60], y[:60])

    board = clf.leaderboard_

    assert len(board) == 4  # two models, each early and late
    assert sorted(board["max_epochs"]) == [5, 5, 10, 20]
    assert board["max_epochs"].is_monotonic_decreasing


def test_a_fusion_that_is_asked_for_narrows_the_choice() -> None:
    clf = make().set_params(fusion="early").fit(X[:60], y[:60])

    assert set(clf.leaderboard_["fusion"]) == {"early"}


def test_with_mini_batches_models_that_need_the_whole_graph_do_not_take_part() -> None:
    names = {
        size: {
            entry["model"][0].name
            for entry in AutoModel()._candidates(
                MultiModalGraphClassifier(batch_size=size).get_params(), X.schema
            )
        }
        for size in (None, 8)
    }

    assert names[8] < names[None]
    assert {"hgnn_ima", "hgt"} <= names[8]
    assert all(MODELS[name]().samples for name in names[8])


def test_by_default_the_models_take_part_that_the_network_is_made_for() -> None:
    graphs = [MultiModalGraph({"word": {"text": np.full((2, 3), i)}}) for i in range(12)]
    stacked = stack_graphs(graphs)
    params = make().get_params(deep=False)
    has = [[0, 0, 1], [0, 1, 1]]

    def names(schema: Schema) -> set[str]:
        return {c["model"][0].name for c in AutoModel()._candidates(params, schema)}

    assert names(X.schema) == {n for n, s in MODELS.items() if "classification" in s.tasks}
    assert names(stacked.schema) == names(X.schema) - {"han"} | {"mm_gcn_pool"}
    tags = MultiModalGraph({"film": {"plot": np.eye(3)}, "tag": 2}, {("film", "has", "tag"): has})
    assert names(tags.nodes("tag").schema) == names(X.schema)  # tags are no graphs of films


def test_folds_may_be_given() -> None:
    groups = np.arange(60) // 10
    given = [KFold(3), list(GroupKFold(3).split(y[:60], y[:60], groups))]

    scores = [make(cv=cv).fit(X[:60], y[:60]).leaderboard_["score"] for cv in (*given, 3)]

    assert all(np.isfinite(s).all() for s in scores)
    with pytest.raises(ValueError, match="The 'cv' parameter of AutoModel must be"):
        make(cv=1).fit(X[:60], y[:60])


def test_a_model_without_labels_takes_part_with_the_probe() -> None:
    probe = LogisticRegression(C=0.5)
    auto = make(models=["shgp", "mlp"], min_epochs=1).set_params(probe=probe, max_epochs=2)

    clf = auto.fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])

    assert {"shgp", "mlp"} == set(clf.leaderboard_["model"])
    assert hasattr(clf, "probe_") == (clf.spec_.name == "shgp")


def test_a_cross_validation_and_rows_take_it() -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(40, 4)), np.arange(40) % 2
    rows[labels == 1] += 2

    scores = cross_val_score(make(min_epochs=20), rows, labels, cv=2)

    assert scores.mean() > 0.8


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the search takes for the time: the number in the list."""
    now = [0.0]
    monkeypatch.setattr(_auto, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def test_once_time_is_out_only_the_winner_is_fitted_and_the_last_complete_scores_decide(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[float] = []
    fit = MultiModalGraphClassifier._fit_classes

    def takes_a_second(*args: Any) -> None:
        begun.append(clock[0])
        fit(*args)
        clock[0] += 1

    monkeypatch.setattr(MultiModalGraphClassifier, "_fit_classes", takes_a_second)

    # a fit of trial, 4 candidates on 2 folds, and one fit of the second round is in time
    clf = make(factor=2, time_budget=9.5).fit(X[:60], y[:60])

    assert begun == list(range(11))
    assert clf.n_iter_ > 5
    assert set(clf.leaderboard_["max_epochs"]) == {5}
    assert clf.leaderboard_["score"].notna().all()


@pytest.mark.parametrize("budget", [3.5, 4.5])
def test_a_fit_in_which_time_runs_out_ends_with_its_epoch(
    budget: float, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = GraphNet.on_epoch_begin

    def takes_a_second(*args: Any, **kwargs: Any) -> None:
        clock[0] += 1
        begin(*args, **kwargs)

    monkeypatch.setattr(GraphNet, "on_epoch_begin", takes_a_second)

    with pytest.raises(ValueError, match="ran out before one model was scored"):
        make(min_epochs=20, time_budget=budget).fit(X[:60], y[:60])

    assert clock[0] == budget + 0.5


def test_no_time_at_all_is_an_error_and_leaves_the_estimator_as_it_was() -> None:
    clf = make(time_budget=0.0)

    with pytest.raises(ValueError, match="ran out before one model was scored"):
        clf.fit(X, y)

    assert not hasattr(clf, "leaderboard_")


def test_a_class_with_one_sample_is_named() -> None:
    with pytest.raises(ValueError, match="at least two samples of every class"):
        make().fit(X[:10], np.arange(10) // 9)


def test_a_second_fit_with_a_named_model_has_no_leaderboard() -> None:
    clf = make(min_epochs=20).fit(X, y)

    clf.set_params(model="mlp").fit(X, y)

    assert not hasattr(clf, "leaderboard_")


def test_a_second_fit_on_another_form_of_x_forgets_the_first() -> None:
    rng = np.random.default_rng(0)
    rows = pd.DataFrame(rng.normal(size=(40, 4)), columns=list("abcd"))
    clf = make(models=["mlp"], min_epochs=20).fit(rows, np.arange(40) % 2)

    assert clf.fit(X, y).predict(X).shape == y.shape
    assert not hasattr(clf, "feature_names_in_")


@pytest.mark.parametrize(
    ("params", "labels", "message"),
    [
        ({"model__scoring": "roc_auc", "model__time_budget": None}, y, "multi_class must be in"),
        ({"model__scoring": "acuracy"}, y, "acuracy"),
        ({}, np.zeros(len(y)), "at least two classes"),
        ({"class_weight": {0: -1.0, 1: 1.0, 2: 1.0}}, y, "class_weight has to hold finite weights"),
        ({"num_neighbors": 3}, y, "num_neighbors"),
        ({"warm_start": True}, y, "warm_start=True goes on with the model of the last fit"),
    ],
    ids=str,
)
def test_what_is_wrong_with_the_input_is_said_before_the_search(
    params: dict[str, Any], labels: np.ndarray, message: str, recwarn: pytest.WarningsRecorder
) -> None:
    with pytest.raises(ValueError, match=message):
        make().set_params(**params).fit(X, labels)

    assert not recwarn.list


@pytest.mark.parametrize("routing", [False, True])
def test_weights_of_samples_are_for_training(
    routing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights: list[Any] = []
    fit = MultiModalGraphClassifier._fit_classes

    def watched(self: Any, X: Any, y: Any, sample_weight: Any, *rest: Any) -> None:
        weights.append(sample_weight)
        fit(self, X, y, sample_weight, *rest)

    monkeypatch.setattr(MultiModalGraphClassifier, "_fit_classes", watched)

    with config_context(enable_metadata_routing=routing):
        make(min_epochs=20).fit(X, y, np.ones(len(y)))

    assert len(weights) > 4
    assert all(weight is not None for weight in weights)


def test_a_model_without_labels_takes_part_whatever_the_others_stop_on() -> None:
    auto = make(models=["shgp", "mlp"], min_epochs=1).set_params(
        max_epochs=2, early_stopping="accuracy"
    )

    clf = auto.fit(X[:60], y[:60])

    assert set(clf.leaderboard_["model"]) == {"shgp", "mlp"}
    assert clf.early_stopping == "accuracy"


def test_it_is_refused_where_there_is_no_score_to_choose_by() -> None:
    with pytest.raises(ValueError, match="chosen by the cross-validated score"):
        AutoModel().build(X.schema, 2)
