"""Training on labelled nodes: what the classifier and the supervised embedder share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets

from skmmg._sklearn import check_sample_weight, check_y
from skmmg.estimators._base import GraphEstimator
from skmmg.estimators._focus import Focus
from skmmg.estimators._labels import warn_about_no_label
from skmmg.estimators._split import split_off_validation
from skmmg.graph import NodeView
from skmmg.graph._schema import diff_names
from skmmg.training import ClassificationLoss

# some nodes with their classes (numbered) and weights
LabelledFocus = tuple[Focus, np.ndarray, np.ndarray]


class SupervisedMixin(GraphEstimator):
    """Classes, weights, validation, and the classification loss."""

    classes_: np.ndarray

    def _fit_classes(self, X: Any, y: Any, sample_weight: Any, X_val: Any, y_val: Any) -> None:
        seed, focus = self._seed(), self._fit_focus(X)
        before = getattr(self, "classes_", None)
        y, codes, weight = self._check_classes(y, focus, sample_weight)
        if self.warm_start and before is not None and not np.array_equal(before, self.classes_):
            raise ValueError(
                f"warm_start=True needs the classes of the last fit, {before}, got "
                f"{self.classes_}. Set warm_start=False to start afresh."
            )
        train, watched = self._validation(X, focus, codes, weight, X_val, y_val, seed)
        self._fit_module(
            *train,
            watched,
            criterion=ClassificationLoss,
            stopping=None if watched is None else self._stopping_rule(),
            n_outputs=len(self.classes_),
            seed=seed,
            callback_data=(X, y),
        )

    def _check_classes(
        self, y: Any, focus: Focus, sample_weight: Any
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Labels, their codes and weights; sets `classes_`."""
        y = self._check_labels(y, focus)
        weight = check_sample_weight(sample_weight, y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y has to hold at least two classes, got one class: {self.classes_.tolist()[0]!r}."
            )
        warn_about_no_label(self.classes_)
        weight = weight * self._class_weights(y)[codes]
        if not weight.any():
            raise ValueError(
                "class_weight has to leave some sample a positive weight, got zeros only. Give "
                "the classes of y a weight above 0."
            )
        return y, codes, weight

    def _check_labels(self, y: Any, focus: Focus) -> np.ndarray:
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        y = check_y(y)
        check_classification_targets(y)
        if len(y) != len(focus.ids):
            raise ValueError(
                f"y has to hold one label per sample of X, got {len(y)} labels for "
                f"{len(focus.ids)} samples. Slice both alike: fit(X[train], y[train])."
            )
        return y

    def _class_weights(self, y: np.ndarray) -> np.ndarray:
        try:
            weights = compute_class_weight(self.class_weight, classes=self.classes_, y=y)
        except ValueError as error:
            given = self.class_weight if isinstance(self.class_weight, Mapping) else {}
            unknown = [label for label in given if label not in self.classes_]
            if unknown:
                raise ValueError(
                    f"class_weight has to name classes of y, {self.classes_.tolist()}, got "
                    f"{unknown}, which y does not have. Give a weight to each class of y."
                ) from error
            raise
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(
                f"class_weight has to hold finite weights of at least 0, got {self.class_weight!r}."
            )
        return weights

    def _validation(
        self,
        X: Any,
        focus: Focus,
        codes: np.ndarray,
        weight: np.ndarray,
        X_val: Any,
        y_val: Any,
        seed: int,
    ) -> tuple[LabelledFocus, LabelledFocus | None]:
        """Nodes to train on and nodes to watch, each with classes and weights."""
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val go together, got one of them.")
        if X_val is not None:
            watched = self._validation_focus(X_val, X, focus)
            labels = self._check_labels(y_val, watched)
            unknown = np.setdiff1d(labels, self.classes_)
            if len(unknown):
                raise ValueError(f"y_val has classes that y does not have: {unknown.tolist()}.")
            watched_codes = np.searchsorted(self.classes_, labels)
            watched_weight = self._class_weights(self.classes_[codes])[watched_codes]
            if not watched_weight.any():
                raise ValueError(
                    "y_val has to have a class whose class_weight is above 0, got only "
                    f"{np.unique(labels).tolist()}. Give X_val nodes of other classes."
                )
            return (focus, codes, weight), (watched, watched_codes, watched_weight)
        if not self.early_stopping:
            return (focus, codes, weight), None
        parts = split_off_validation(codes, weight, self.validation_fraction, seed)
        train, held_out = ((focus.at(focus.ids[i]), codes[i], weight[i]) for i in parts)
        return train, held_out

    def _validation_focus(self, X_val: Any, X: Any, focus: Focus) -> Focus:
        if isinstance(X_val, NodeView) != isinstance(X, NodeView):
            raise TypeError(
                f"X_val has to have the same form as X, got {type(X_val).__name__} where X is "
                f"{type(X).__name__}. Pass two views, or rows twice."
            )
        if not isinstance(X_val, NodeView):
            return self._new_rows(X_val)
        if not len(X_val):
            raise ValueError("X_val has to hold at least one sample to stop on, got none.")
        differences = [
            *focus.schema.diff(X_val.schema),
            *diff_names(focus.feature_names, X_val.graph.feature_names),
        ]
        if differences:
            raise ValueError("\n".join(["The graphs of X and of X_val differ:", *differences]))
        if self.setting == "inductive":
            seen = np.append(X.ids, X_val.ids) if X_val.graph is X.graph else X_val.ids
            return Focus.induced(X_val, seen, statistics=focus.statistics)
        return Focus(X_val.graph, X_val.node_type, X_val.ids, focus.statistics)
