"""What an estimator keeps of a fit: arrays, specs and the history."""

from __future__ import annotations

from typing import Any

import torch
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skmmg.estimators._focus import Focus
from skmmg.graph import MultiModalGraph, Schema
from skmmg.graph._payload import Names
from skmmg.graph._schema import diff_names
from skmmg.models import ModelSpec
from skmmg.training import GraphNet, private_seed


class FittedStateMixin(BaseEstimator):
    """Plain fitted attributes, and the module that is built from them.

    The module is not in a pickle; it is built again when the estimator is read.
    """

    schema_: Schema
    feature_names_: Names

    def _model_spec(self) -> ModelSpec:
        raise NotImplementedError

    def _load_weights(self, module: nn.Module, focus: Focus, n_outputs: int) -> None:
        """Go on from the weights of the last fit."""
        self._check_last_fit(focus, n_outputs)
        try:
            module.load_state_dict({k: torch.tensor(v) for k, v in self.weights_.items()})
        except RuntimeError as error:
            raise ValueError(
                "warm_start=True needs the model parameters of the last fit, got other ones. Set "
                "warm_start=False to start afresh."
            ) from error

    def _check_last_fit(self, focus: Focus, n_outputs: int) -> None:
        """Raise if the last fit had another schema, other columns or other outputs."""
        if self._diff(focus.schema, focus.graph) or self.n_outputs_ != n_outputs:
            raise ValueError(
                "warm_start=True needs the schema, the columns and the number of outputs (classes "
                "or n_components) of the last fit, got other ones. Set warm_start=False to start "
                "afresh."
            )

    def _diff(self, schema: Schema, graph: MultiModalGraph) -> list[str]:
        """Tell where a graph differs from that of the last fit, one line per difference."""
        names = diff_names(self.feature_names_, graph.feature_names)
        return [*self.schema_.diff(schema), *names]

    def _fitted_state(
        self, net: GraphNet, module: nn.Module, focus: Focus, n_outputs: int
    ) -> dict[str, Any]:
        """Fitted attributes, as if training had ended now."""
        weights = {
            name: value.detach().cpu().numpy().copy() for name, value in module.state_dict().items()
        }
        stopping = dict(net.callbacks_).get("early_stopping")
        spec = clone(self._model_spec())
        state = {
            "weights_": weights,
            "schema_": focus.schema,
            "feature_names_": focus.feature_names,
            "statistics_": focus.statistics,
            "n_outputs_": n_outputs,
            "spec_": spec,
            "fusion_": spec.choose_fusion(self.fusion),
            "missing_": self.missing,
            "history_": net.plain_history(),
            "n_iter_": len(net.history),
            "best_epoch_": int(getattr(stopping, "best_epoch_", len(net.history))),
        }
        state["_module"] = self._build_module(state)
        state["_n_features_out"] = int(state["_module"].out_channels)
        return state

    @staticmethod
    def _build_module(state: dict[str, Any]) -> nn.Module:
        """The module of a fitted state, on the CPU and ready to infer."""
        with private_seed(0, torch.device("cpu")):
            module = state["spec_"].build(
                state["schema_"],
                state["n_outputs_"],
                fusion=state["fusion_"],
                missing=state["missing_"],
            )
        # a copy: the arrays of an unpickled estimator may be read-only
        weights = {name: torch.tensor(value) for name, value in state["weights_"].items()}
        module.to(dtype=next(w.dtype for w in weights.values() if w.is_floating_point()))
        module.load_state_dict(weights)
        return module.eval().requires_grad_(False)

    def __getstate__(self) -> dict[str, Any]:
        state = dict(super().__getstate__())
        state.pop("_module", None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if "weights_" in self.__dict__:
            self._module = self._build_module(self.__dict__)

    @property
    def module_(self) -> nn.Module:
        """The trained `torch.nn.Module`, on the CPU, built from `weights_`."""
        check_is_fitted(self)
        return self._module

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "weights_")
