"""Search spaces: every search takes them, and every draw is a valid setting of the model."""

from __future__ import annotations

import warnings
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, FloatDistribution
from sklearn.model_selection import ParameterSampler, RandomizedSearchCV

from skmmg import CrossModalRetriever, MultiModalGraphClassifier, stack_graphs
from skmmg.datasets import make_multimodal_graph
from skmmg.models import HGT, MODELS, DualMLP
from skmmg.tuning import search_space, suggest


@pytest.mark.parametrize("model", MODELS)
def test_every_parameter_in_the_space_is_one_that_set_params_takes(model: str) -> None:
    space = search_space(model, neighbors=True)

    known = MultiModalGraphClassifier(model).get_params()

    assert set(space) <= set(known)
    assert all(isinstance(values, BaseDistribution) for values in space.values())
    assert {"lr", "weight_decay", "graph__n_neighbors"} <= set(space)


@pytest.mark.parametrize("model", MODELS)
def test_every_draw_is_a_setting_that_the_model_accepts(model: str) -> None:
    items = make_multimodal_graph(12, random_state=0).graph
    of_graphs = "graph classification" in MODELS[model].tasks
    schema = (stack_graphs([items]) if of_graphs else items.nodes("item")).schema
    clf = MultiModalGraphClassifier(MODELS[model]())

    for params in ParameterSampler(search_space(model, kind="sklearn"), 5, random_state=0):
        clf.set_params(**params).model.build(schema, 2)


def test_the_retriever_has_a_space_for_its_model_without_a_graph() -> None:
    space = search_space("dual_mlp")

    assert space == search_space(DualMLP())
    assert (
        {"model__hidden_channels", "lr"}
        <= set(space)
        <= set(CrossModalRetriever(model="dual_mlp").get_params())
    )


@pytest.mark.parametrize("model", ["auto", "cca", "semantic"])
def test_a_model_without_a_space_says_why(model: Any) -> None:
    with pytest.raises(ValueError, match=r"has no search space: it (searches|has model__)"):
        search_space(model)


def test_both_kinds_have_the_same_bounds() -> None:
    for_optuna, for_sklearn = (search_space("hgt", kind=kind) for kind in ("optuna", "sklearn"))

    assert set(for_optuna) == set(for_sklearn)
    for name, values in for_optuna.items():
        if hasattr(for_sklearn[name], "support"):
            low, high = for_sklearn[name].support()
            assert (values.low, values.high) == pytest.approx((low, high))
        else:
            assert list(values.choices) == for_sklearn[name]


def test_a_prefix_names_the_step_of_a_pipeline() -> None:
    space = search_space(HGT(), prefix="clf__")

    assert isinstance(space["clf__lr"], FloatDistribution)
    assert all(name.startswith("clf__") for name in space)


def test_a_trial_suggests_what_the_space_holds() -> None:
    space = search_space("hgnn_ima")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()

    params = suggest(trial, "hgnn_ima")

    assert trial.distributions == space
    assert params == trial.params


@pytest.mark.filterwarnings("ignore:`optuna.terminator` module has been deprecated:FutureWarning")
def test_scikit_learn_and_optuna_search_a_view_in_it() -> None:
    planted = make_multimodal_graph(45, random_state=0)
    X, y = planted.graph.nodes("item"), planted.target
    clf = MultiModalGraphClassifier("mlp", max_epochs=2, early_stopping=False, random_state=0)

    random = RandomizedSearchCV(
        clf, search_space("mlp", kind="sklearn"), n_iter=2, cv=2, random_state=0
    ).fit(X, y)
    found = _optuna_search(clf, search_space("mlp")).fit(X, y)

    assert random.best_params_.keys() == found.best_params_.keys()
    assert found.predict(X).shape == y.shape


def _optuna_search(clf: MultiModalGraphClassifier, space: dict[str, Any]) -> Any:
    from optuna_integration import OptunaSearchCV

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return OptunaSearchCV(clf, space, cv=2, n_trials=2, random_state=0)


def test_what_is_not_known_is_named() -> None:
    with pytest.raises(ValueError, match="kind has to be 'optuna' or 'sklearn', got 'ray'"):
        search_space("hgt", kind="ray")
    with pytest.raises(ValueError, match="Did you mean 'hgt'"):
        search_space("hgtt")
