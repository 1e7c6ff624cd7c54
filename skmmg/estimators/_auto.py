"""`model="auto"`: successive halving over the models of the package."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import check_scoring
from sklearn.model_selection import HalvingGridSearchCV, StratifiedKFold
from torch import nn

from skmmg._sklearn import HasMethods, Interval, validate_params
from skmmg.graph import Schema
from skmmg.graph._stack_graphs import is_stack
from skmmg.models import MODELS, ModelSpec, get_model

# what leads to the parameters of the classifier inside `_InTime`
_NESTED = "estimator__"


@dataclass(frozen=True)
class Choice:
    """The winner of a search, and what was tried."""

    params: dict[str, Any]  # model, fusion, probe and early_stopping
    leaderboard: pd.DataFrame

    def validation(self, X_val: Any, y_val: Any) -> dict[str, Any]:
        """Data to stop on, for a winner that takes any."""
        without = self.params["model"].self_supervised
        return {} if without else {"X_val": X_val, "y_val": y_val}


class AutoModel(ModelSpec):
    """The model that does best in a cross-validation on the training samples.

    Successive halving: all models, in early and in late fusion where they have both, are trained
    for a few epochs; the best third of them for three times as many, and so on, up to the
    `max_epochs` of the classifier. The winner is trained on all samples.

    Parameters
    ----------
    models : list of str or ModelSpec, or None, default=None
        Models to choose from; None: all that `skmmg.list_models` shows for classification and that
        the network is made for, with a `batch_size` those that can do with samples.
    cv : int, splitter of scikit-learn or iterable of (train, test), default=3
        Number of stratified folds, or the folds; ``list(GroupKFold().split(X, y, groups))`` keeps
        groups together. Such a list holds positions in that X, so it is for one fit on it: a
        cross-validation around the classifier fits on parts of X, where the positions mean others.
    factor : int, default=3
        One in `factor` models goes to the next round, with `factor` times the epochs.
    min_epochs : int, default=10
        Epochs of the first round.
    time_budget : float or None, default=600
        Seconds after which the comparison ends: no further fit is begun, and one that is under
        way ends, unscored, with its epoch. In a round that was cut short a model that was not
        scored on all folds stands with its score of the round before. The fit of the winner on all
        samples comes on top. None: no limit.
    scoring : str, callable or None, default=None
        What is best, in scikit-learn's words; None: accuracy.

    Notes
    -----
    After `fit` the classifier has `leaderboard_`, a table of what was tried, and `spec_` and
    `fusion_`, the winner. The folds are transductive or inductive as `setting` says. Weights of
    samples count in training, not in the scores. A search starts afresh: ``warm_start=True`` is an
    error.

    Examples
    --------
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.datasets import make_multimodal_graph
    >>> data = make_multimodal_graph(n_samples=60, random_state=0)
    >>> clf = MultiModalGraphClassifier("auto", max_epochs=4, random_state=0)
    >>> clf = clf.set_params(model__models=["mlp", "hgt"], model__min_epochs=2)
    >>> clf.fit(data.graph.nodes("item"), data.target).leaderboard_["model"].nunique()
    2
    """

    name: ClassVar[str] = "auto"
    paper: ClassVar[str] = "Jamieson, Talwalkar, Non-stochastic best arm identification, 2016"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "models": [list, tuple, None],
        "cv": [Interval(Integral, 2, None, closed="left"), HasMethods(["split"]), list, tuple],
        "factor": [Interval(Integral, 2, None, closed="left")],
        "min_epochs": [Interval(Integral, 1, None, closed="left")],
        "time_budget": [Interval(Real, 0, None, closed="left"), None],
        "scoring": [str, callable, None],
    }

    def __init__(
        self,
        models: Sequence[str | ModelSpec] | None = None,
        cv: Any = 3,
        factor: int = 3,
        min_epochs: int = 10,
        time_budget: float | None = 600.0,
        scoring: Any = None,
    ) -> None:
        self.models = models
        self.cv = cv
        self.factor = factor
        self.min_epochs = min_epochs
        self.time_budget = time_budget
        self.scoring = scoring

    def _build(self, schema: Schema, n_outputs: int, fusion: str | None, missing: str) -> nn.Module:
        raise ValueError(
            "model='auto' is chosen by the cross-validated score of MultiModalGraphClassifier.fit "
            "and has no network of its own. Elsewhere name a model; see skmmg.list_models()."
        )

    def search(
        self, estimator: BaseEstimator, X: Any, y: np.ndarray, sample_weight: Any, seed: int
    ) -> Choice:
        """Search with clones of `estimator`, as its ``fit`` does.

        Parameters
        ----------
        estimator : MultiModalGraphClassifier
            Gives all parameters but `model` and `fusion`.
        X : NodeView, or array-like of shape (n_samples, n_features)
            The training samples.
        y : ndarray of shape (n_samples,)
            Their classes.
        sample_weight : array-like of shape (n_samples,) or None
            For training; scores are without weights.
        seed : int
            Of the folds and of every fit.

        Returns
        -------
        Choice
            The winner and the leaderboard.
        """
        validate_params(self)
        params = estimator.get_params(deep=False)
        deadline = time.monotonic() + (np.inf if self.time_budget is None else self.time_budget)
        schema = self._try(estimator, X, y, sample_weight, seed)
        candidates = self._candidates(params, schema)
        search = HalvingGridSearchCV(
            _InTime(clone(estimator).set_params(random_state=seed), deadline, self.scoring),
            [{_NESTED + key: values for key, values in c.items()} for c in candidates],
            resource=f"{_NESTED}max_epochs",
            min_resources=min(self.min_epochs, params["max_epochs"]),
            max_resources=params["max_epochs"],
            factor=self.factor,
            cv=self._folds(y, seed),
            refit=False,
        )
        given = {} if sample_weight is None else {"sample_weight": sample_weight}
        # the weights are for training, whatever the caller routes
        with warnings.catch_warnings(), config_context(enable_metadata_routing=False):
            # what came too late has the score nan, which is meant
            warnings.filterwarnings("ignore", ".*scores are non-finite", UserWarning)
            warnings.filterwarnings("ignore", ".*does not support sample_weight", UserWarning)
            search.fit(X, y, **given)
        ranked = _rank(search.cv_results_, deadline)
        shown = ranked.drop(columns=["params", "round", "reached"])
        winner = {key: ranked["params"][0][key] for key in candidates[0]}
        return Choice(clone(winner, safe=False), shown)

    def _try(
        self, estimator: BaseEstimator, X: Any, y: np.ndarray, sample_weight: Any, seed: int
    ) -> Schema:
        """Train the cheapest model for an epoch: what is wrong with the input is said once."""
        trial = clone(estimator).set_params(
            model="mlp", fusion=None, probe=None, max_epochs=1, verbose=0, random_state=seed
        )
        trial.fit(X, y, sample_weight)
        check_scoring(trial, self.scoring)(trial, X, y)
        return trial.schema_

    def _folds(self, y: np.ndarray, seed: int) -> Any:
        if not isinstance(self.cv, Integral):
            return self.cv
        smallest = int(np.unique(y, return_counts=True)[1].min())
        if smallest < 2:
            raise ValueError(
                "model='auto' scores models by cross-validation and needs at least two samples of "
                "every class, got a class with one. Name a model, or leave that class out."
            )
        n_folds = min(int(self.cv), smallest)
        return StratifiedKFold(n_folds, shuffle=True, random_state=seed)

    def _candidates(self, params: dict[str, Any], schema: Schema) -> list[dict[str, list[Any]]]:
        fusion, stopping = params["fusion"], params["early_stopping"]
        if self.models is None:
            tasks = {"classification"} | ({"graph classification"} if is_stack(schema) else set())
            specs = [
                spec
                for spec in (make() for make in MODELS.values())
                if tasks & set(spec.tasks)
                and (params["batch_size"] is None or spec.samples)
                and _is_made_for(spec, schema)
            ]
        else:
            specs = [get_model(model) for model in self.models]
        out: list[dict[str, list[Any]]] = [
            {
                "model": [spec],
                "fusion": [mode],
                "probe": [params["probe"] if spec.self_supervised else None],
                # without labels there is no accuracy to stop on
                "early_stopping": [bool(stopping) if spec.self_supervised else stopping],
            }
            for spec in specs
            for mode in (spec.fusion_modes or (None,))
            if fusion in (None, mode)
        ]
        if not out:
            raise ValueError(
                f"None of the models {[spec.name for spec in specs]} has fusion={fusion!r}. Set "
                "fusion=None, or name other models."
            )
        return out


def _is_made_for(spec: ModelSpec, schema: Schema) -> bool:
    """Whether the model can be built for such a network; some need metapaths."""
    try:
        with torch.device("meta"):
            spec.build(schema, 2)
    except ValueError:
        return False
    return True


class _OutOfTime(Exception):
    """Ends a fit that nobody waits for any more."""


class _StopAt:
    """Callback of scikit-learn that ends a fit before or after the epoch in which time runs out."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline

    def setup(self, estimator: Any, context: Any) -> None:
        """Nothing to set up."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Nothing to tear down."""

    def on_fit_task_begin(self, estimator: Any, context: Any, **kwargs: Any) -> None:
        """Stop here, if it is time."""
        if time.monotonic() > self.deadline:
            raise _OutOfTime

    on_fit_task_end = on_fit_task_begin


class _InTime(BaseEstimator):
    """A classifier that is not fitted, and scores nan, once time has run out."""

    def __init__(self, estimator: Any, deadline: float, scoring: Any) -> None:
        self.estimator, self.deadline, self.scoring = estimator, deadline, scoring

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the classifier, if there is time left."""
        with suppress(_OutOfTime):
            if not self._is_late():
                self.estimator.set_callbacks(_StopAt(self.deadline)).fit(X, y, sample_weight)
        return self

    def score(self, X: Any, y: Any) -> float:
        """Score of the classifier; nan where time has run out: its fit may have been cut short."""
        if self._is_late():
            return float("nan")
        return float(check_scoring(self.estimator, self.scoring)(self.estimator, X, y))

    def _is_late(self) -> bool:
        return time.monotonic() > self.deadline


def _rank(results: dict[str, Any], deadline: float) -> pd.DataFrame:
    """Models by how far they came, then by score.

    A model that a round had no time to score stands with its score of the round before.
    """
    params = [
        {key.removeprefix(_NESTED): value for key, value in given.items()}
        for given in results["params"]
    ]
    frame = pd.DataFrame(
        {
            "model": [p["model"].name for p in params],
            "fusion": [p["fusion"] for p in params],
            "max_epochs": results["n_resources"],
            "score": results["mean_test_score"],
            "std": results["std_test_score"],
            "seconds": results["mean_fit_time"],
            "round": results["iter"],
            "params": params,
        }
    )
    candidate = pd.Series([f"{id(p['model'])} {p['fusion']}" for p in params])
    frame["reached"] = frame.groupby(candidate)["round"].transform("max")
    scored = frame.dropna(subset=["score"]).sort_values("round")
    if scored.empty and time.monotonic() > deadline:
        raise ValueError(
            "time_budget of model='auto' ran out before one model was scored. Give it more "
            "seconds, or fewer models."
        )
    if scored.empty:
        raise ValueError(
            "No model of model='auto' could be scored on all folds; the warnings tell why. Name "
            "other models, or another scoring."
        )
    last = scored.groupby(candidate, sort=False).tail(1)
    ranked = last.sort_values(["reached", "score"], ascending=False, kind="stable")
    return ranked.reset_index(drop=True)
