"""Training without labels, and a scikit-learn classifier on what was learnt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import has_fit_parameter

from skmmg.estimators._base import FittedState
from skmmg.estimators._focus import Focus
from skmmg.estimators._supervised import SupervisedMixin
from skmmg.models import MODELS, ModelOutput, get_model
from skmmg.training import SelfSupervisedLoss


class PretrainingMixin(SupervisedMixin):
    """Models and objectives that need no labels."""

    def _pretrain(
        self,
        focus: Focus,
        *,
        seed: int,
        callback_data: tuple[Any, Any],
        extend: Callable[[FittedState], FittedState] | None = None,
    ) -> None:
        """Train by the model's own objective, on all target nodes of the graph in focus."""
        self._fit_without_labels(
            focus.at(np.arange(focus.graph.n_nodes[focus.node_type])),
            criterion=SelfSupervisedLoss,
            n_outputs=0,
            seed=seed,
            callback_data=callback_data,
            extend=extend,
        )

    def _fit_without_labels(self, focus: Focus, **options: Any) -> None:
        """Train on nodes that have one made-up class; stop on the training loss."""
        if self.early_stopping not in (False, True, "loss"):
            raise ValueError(
                f"Model {get_model(self.model).name!r} is trained without labels, so "
                f'early_stopping has to be a bool or "loss", got {self.early_stopping!r}.'
            )
        n_nodes = len(focus.ids)
        self._fit_module(
            focus,
            np.ones(n_nodes, dtype=np.int64),
            np.ones(n_nodes),
            None,
            stopping="train_loss" if self.early_stopping else None,
            **options,
        )


class ProbeMixin(PretrainingMixin):
    """A classifier from scikit-learn on the embedding of a model that sees no labels."""

    probe: ClassifierMixin | None
    probe_: ClassifierMixin

    def _fit_probe(self, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, Any]) -> None:
        """Pretrain; then fit the probe on the embeddings of the training nodes."""
        if any(part is not None for part in validation):
            raise ValueError(
                f"Model {get_model(self.model).name!r} is trained without labels and stops on its "
                "training loss: it takes no X_val and y_val. Leave them out."
            )
        seed, focus = self._seed(), self._fit_focus(X)
        y, _, weight = self._check_classes(y, focus, sample_weight)
        probe = self._make_probe()
        weighted = sample_weight is not None or self.class_weight is not None
        options = {_name_of_weights(probe): weight} if weighted else {}

        def fit_probe(state: FittedState) -> FittedState:
            labels = state["known_labels_"]
            output = self._infer_focus(focus if labels is None else labels.on(focus), state)
            # the weights go to the probe by name; with metadata routing a pipeline would refuse it
            with config_context(enable_metadata_routing=False):
                return {"probe_": clone(probe).fit(_rows_of(output), y, **options)}

        self._pretrain(focus, seed=seed, callback_data=(X, y), extend=fit_probe)

    def _make_probe(self) -> BaseEstimator:
        if self.probe is not None:
            return self.probe
        # the columns of an embedding have scales that nothing fixes, and a ridge sees scales
        return make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))

    def _ask_probe(self, method: str, output: ModelOutput) -> np.ndarray:
        return np.asarray(getattr(self.probe_, method)(_rows_of(output)))

    def _check_no_probe(self) -> None:
        if self.probe is not None:
            raise ValueError(
                f"probe={self.probe!r} does not apply to model {get_model(self.model).name!r}, "
                "which is trained on labels and classifies by itself. Leave probe=None, or take a "
                "model that is trained without labels, such as model='shgp'."
            )


def _rows_of(output: ModelOutput) -> np.ndarray:
    """The embedding in float64, in which a probe's probabilities sum to one."""
    return output.embedding.double().cpu().numpy()


def _name_of_weights(probe: BaseEstimator) -> str:
    """What a probe's fit calls the weights of the samples; a pipeline's go to its last step."""
    prefix, last = ("", probe)
    if isinstance(probe, Pipeline):
        prefix, last = (f"{probe.steps[-1][0]}__", probe.steps[-1][1])
    if not has_fit_parameter(last, "sample_weight"):
        raise ValueError(
            f"sample_weight and class_weight go to the probe, but the fit of {last!r} takes no "
            "sample_weight. Leave them None, or take another probe."
        )
    return f"{prefix}sample_weight"


def probe_has(method: str) -> Callable[[Any], bool]:
    """Check for `available_if`: a probe, if there is one, has the method."""

    def check(estimator: Any) -> bool:
        probe = getattr(estimator, "probe_", estimator.probe)
        if probe is not None:
            getattr(probe, method)  # the probe's own AttributeError says what it lacks
        return True

    return check


def classifies_by_a_probe_with(method: str) -> Callable[[Any], bool]:
    """Check for `available_if`: there is, or will be, a probe, and it has the method."""

    def check(estimator: Any) -> bool:
        probe = getattr(estimator, "probe_", None)
        if not hasattr(estimator, "weights_") and _needs_a_probe(estimator.model):
            probe = estimator._make_probe()
        return hasattr(probe, method)

    return check


def _needs_a_probe(model: Any) -> bool:
    """Tell whether a model, which may be no model at all, is trained without labels."""
    spec = MODELS[model]() if isinstance(model, str) and model in MODELS else model
    return getattr(spec, "self_supervised", False) is True
