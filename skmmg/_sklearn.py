"""The only place that imports private names of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from sklearn import get_config
from sklearn.base import BaseEstimator, _fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    Options,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import _check_sample_weight, _check_y

__all__ = [
    "HasMethods",
    "InstanceOf",
    "Interval",
    "Options",
    "StrOptions",
    "check_none_masked",
    "check_sample_weight",
    "check_y",
    "fit_context",
    "requested_metadata",
    "validate_params",
]


class InstanceOf(Options):
    """A constraint: an instance of some class, in words that tell what to write."""

    def __init__(self, kind: Any, words: str) -> None:
        super().__init__(kind, set())
        self.words = words

    def is_satisfied_by(self, val: Any) -> bool:
        """Tell whether a value is an instance."""
        return isinstance(val, self.type)

    def __str__(self) -> str:
        return self.words


def fit_context() -> Any:
    """Decorator of `fit`: parameters are validated, callbacks are torn down."""
    return _fit_context(prefer_skip_nested_validation=True)


def check_none_masked(values: Any, name: str) -> None:
    """Raise for a masked array of labels or weights, whose mask would be ignored."""
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(
            f"{name} must not be a masked array. Leave the masked samples out: "
            f"keep = ~np.ma.getmaskarray({name}), then X[keep] and {name}.data[keep]."
        )


def check_sample_weight(sample_weight: Any, X: Any) -> Any:
    """Weights as float64, one per sample, none negative; ones for None."""
    check_none_masked(sample_weight, "sample_weight")
    return _check_sample_weight(sample_weight, X, dtype=float, ensure_non_negative=True)


def check_y(y: Any) -> Any:
    """Labels as a 1-D array, none of them missing."""
    check_none_masked(y, "y")
    missing = np.ravel(pd.isna(y))
    if missing.any():
        raise ValueError(
            "Input y contains NaN, None or NA: it has to hold a label per sample, but sample "
            f"{missing.argmax()} has none. Leave the unlabelled samples out."
        )
    return _check_y(y, multi_output=False, y_numeric=False)


def requested_metadata(transformer: Any) -> set[str]:
    """What a transformer asks for beside X and y; nothing where metadata is not routed."""
    if not get_config()["enable_metadata_routing"]:
        return set()
    requested: set[str] = set()
    for method in ("fit", "transform"):
        try:
            routing = get_routing_for_object(transformer)
            names = routing._get_param_names(
                method=method, return_alias=True, ignore_self_request=False
            )
        except NotImplementedError:  # it says itself that it routes nothing
            return set()
        # the names are of all that it knows; of these it consumes what was requested
        requested |= routing.consumes(method, names)
    return requested


def validate_params(spec: BaseEstimator) -> None:
    """Check a spec's parameters against its `_parameter_constraints`."""
    validate_parameter_constraints(
        spec._parameter_constraints, spec.get_params(deep=False), caller_name=type(spec).__name__
    )
