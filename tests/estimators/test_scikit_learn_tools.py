"""scikit-learn's tools on both forms of X, and where they stop."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import BaggingClassifier, StackingClassifier, VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    PredefinedSplit,
    StratifiedGroupKFold,
    TunedThresholdClassifierCV,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    train_test_split,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import Bunch

from skmmg import ModalityTransformer, MultiModalGraphClassifier, NodeView

Params = dict[str, Any]


@pytest.fixture
def clf(params: Params) -> MultiModalGraphClassifier:
    return MultiModalGraphClassifier(**params | {"max_epochs": 3})


def test_cross_validation_takes_nodes(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    scores = cross_val_score(clf.set_params(max_epochs=30), X, y, cv=3)

    assert scores.mean() > 0.6


def test_cross_validation_takes_rows(rows: Bunch, clf: MultiModalGraphClassifier) -> None:
    clf.set_params(max_epochs=30, modalities=rows.modalities)

    assert cross_val_score(clf, rows.data, rows.target, cv=3).mean() > 0.8


def test_splits_of_nodes_are_nodes(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    X_train, X_test, y_train, y_test = train_test_split(X, y, stratify=y, random_state=0)
    folds = PredefinedSplit(np.arange(60) % 2)

    assert isinstance(X_train, NodeView)
    assert_array_equal(y[X_test.ids], y_test)
    assert clf.fit(X_train, y_train).score(X_test, y_test) >= 0
    assert cross_val_predict(clf, X, y, cv=folds, method="predict_proba").shape == (60, 3)


@pytest.mark.parametrize("form", ["nodes", "rows"])
def test_a_grid_search_runs_in_two_processes(
    form: str, X: NodeView, y: np.ndarray, rows: Bunch, clf: MultiModalGraphClassifier
) -> None:
    data, target = (X, y) if form == "nodes" else (rows.data, rows.target)
    grid = {"model__num_layers": [0, 1], "lr": [1e-3, 1e-1]}

    search = GridSearchCV(clf, grid, cv=2, n_jobs=2, error_score="raise").fit(data, target)

    assert set(search.best_params_) == set(grid)
    assert search.predict(data).shape == (60,)
    alone = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(data, target)
    assert_allclose(search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"])


def test_a_grid_search_compares_models(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    search = GridSearchCV(clf, {"model": ["hgnn_ima", "hgt", "mlp"]}, cv=2, error_score="raise")

    assert len(search.fit(X, y).cv_results_["params"]) == 3


def test_a_grid_over_a_named_models_parameters_leaves_the_estimator_alone(
    X: NodeView, y: np.ndarray
) -> None:
    clf = MultiModalGraphClassifier("hgt", max_epochs=1, random_state=0)

    search = GridSearchCV(clf, {"model__heads": [1, 2]}, cv=2, error_score="raise").fit(X, y)

    assert clf.model == "hgt"
    assert search.best_estimator_.model.heads in (1, 2)


def test_a_pipeline_prepares_each_modality_of_nodes(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    reduce = ModalityTransformer({"modality_0": TruncatedSVD(2, random_state=0)})
    model = make_pipeline(reduce, clf)

    assert cross_val_score(model, X, y, cv=2, error_score="raise").shape == (2,)
    model.fit(X, y)
    assert model[-1].schema_.node_types["item"]["modality_0"] == 2
    assert model.predict_proba(X[:5]).shape == (5, 3)


def test_a_pipeline_prepares_each_modality_of_rows(
    rows: Bunch, clf: MultiModalGraphClassifier
) -> None:
    scale = ModalityTransformer(StandardScaler(), modalities=rows.modalities)
    model = Pipeline([("scale", scale), ("clf", clf.set_params(modalities=rows.modalities))])

    search = GridSearchCV(model, {"clf__model__num_layers": [0, 1]}, cv=2, error_score="raise")

    assert search.fit(rows.data, rows.target).predict(rows.data).shape == (60,)


def test_a_pipeline_caches_its_steps(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier, tmp_path: Any
) -> None:
    model = make_pipeline(ModalityTransformer(StandardScaler()), clf, memory=str(tmp_path))

    first = model.fit(X, y).predict_proba(X)

    assert_allclose(clone(model).fit(X, y).predict_proba(X), first)


def test_groups_stay_together(X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier) -> None:
    groups = np.arange(60) // 2
    cv = StratifiedGroupKFold(2)

    result = cross_validate(
        clf, X, y, cv=cv, groups=groups, return_indices=True, error_score="raise"
    )

    for train, test in zip(*result["indices"].values(), strict=True):
        assert not set(groups[train]) & set(groups[test])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda clf: StackingClassifier([("a", clf)], LogisticRegression(), cv=2),
        lambda clf: VotingClassifier([("a", clf), ("b", clf)], voting="soft"),
        lambda clf: CalibratedClassifierCV(clf, cv=2),
        lambda clf: OneVsRestClassifier(clf),
    ],
    ids=["stacking", "voting", "calibrated", "one_vs_rest"],
)
def test_meta_estimators_take_nodes(
    wrap: Any, X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    model = wrap(clf).fit(X[:40], y[:40])

    assert_allclose(model.predict_proba(X[40:]).sum(1), 1)
    assert model.score(X[40:], y[40:]) >= 0


def test_a_threshold_is_tuned_on_nodes(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    tuned = TunedThresholdClassifierCV(clf, cv=2).fit(X, y == 0)

    assert set(tuned.predict(X)) <= {True, False}


def test_a_frozen_estimator_is_not_fitted_again(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    clf.fit(X[:40], y[:40])

    calibrated = CalibratedClassifierCV(FrozenEstimator(clf), cv=2).fit(X[40:], y[40:])

    assert calibrated.predict_proba(X).shape == (60, 3)


def test_a_learning_curve_takes_nodes(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    sizes, train, test = learning_curve(
        clf, X, y, cv=2, train_sizes=[0.5, 1.0], error_score="raise"
    )

    assert sizes.tolist() == [15, 30]
    assert train.shape == test.shape == (2, 2)


@pytest.mark.filterwarnings("ignore:`optuna.terminator` module has been deprecated:FutureWarning")
def test_optuna_searches_on_nodes(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    optuna = pytest.importorskip("optuna")
    integration = pytest.importorskip("optuna_integration")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space = {
        "lr": optuna.distributions.FloatDistribution(1e-3, 1e-1, log=True),
        "model__num_layers": optuna.distributions.IntDistribution(0, 2),
    }
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        search = integration.OptunaSearchCV(
            clf, space, cv=2, n_trials=2, random_state=0, error_score="raise"
        )

    search.fit(X, y)

    assert set(search.best_params_) == set(space)
    assert search.predict(X[:5]).shape == (5,)


@pytest.mark.parametrize(
    "tool",
    [
        lambda clf: BaggingClassifier(clf).fit,
        lambda clf: OneVsOneClassifier(clf).fit,
        lambda clf: SelfTrainingClassifier(clf).fit,
        lambda clf: StackingClassifier([("a", clf)], cv=2, passthrough=True).fit,
        lambda clf: partial(permutation_importance, clf),
    ],
    ids=["bagging", "one_vs_one", "self_training", "passthrough", "importance"],
)
def test_tools_that_hand_columns_to_a_graph_classifier_name_others(
    tool: Any, X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    use = tool(clf.fit(X, y))

    with pytest.raises(TypeError, match=r"VotingClassifier or OneVsRestClassifier.*with_features"):
        use(X, np.where(np.arange(60) < 50, y, -1))


def test_bagging_takes_rows(rows: Bunch, clf: MultiModalGraphClassifier) -> None:
    bagging = BaggingClassifier(clf, n_estimators=2, random_state=0)

    assert bagging.fit(rows.data, rows.target).predict(rows.data).shape == (60,)


def test_sample_weights_are_routed(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    weight = np.where(y == 0, 5.0, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        clf.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        scores = cross_val_score(
            clf, X, y, cv=2, params={"sample_weight": weight}, error_score="raise"
        )

    assert scores.shape == (2,)


# ------------------------------------------------------------------------------ callbacks


def test_a_progress_bar_shows_the_epochs(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    plain = clone(clf).fit(X, y)

    clf.set_callbacks(ProgressBar()).fit(X, y)

    assert_array_equal(clf.predict_proba(X), plain.predict_proba(X))


def test_a_monitor_scores_every_epoch(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    monitor = ScoringMonitor(scoring="accuracy")

    clf.set_callbacks(monitor).fit(X, y)

    log = monitor.get_logs().data_as_pandas
    by_task = log.groupby("task_name")["accuracy"]
    assert by_task.size()["epoch"] == clf.n_iter_
    assert by_task.last()["fit"] == clf.score(X, y)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_callbacks_work_inside_a_search(
    n_jobs: int, X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier
) -> None:
    clf.set_callbacks(ScoringMonitor(scoring="accuracy"))

    search = GridSearchCV(clf, {"lr": [1e-2, 1e-1]}, cv=2, n_jobs=n_jobs, error_score="raise")

    assert search.fit(X, y).best_score_ >= 0


def test_an_interrupt_leaves_the_callbacks(
    X: NodeView, y: np.ndarray, clf: MultiModalGraphClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    clf.set_callbacks(ScoringMonitor(scoring="accuracy"))

    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("skmmg.training._net.GraphNet.run_single_epoch", interrupt)
        with pytest.raises(KeyboardInterrupt):
            clf.fit(X, y)
    assert not hasattr(clf, "weights_")

    assert clf.fit(X, y).predict(X).shape == (60,)
