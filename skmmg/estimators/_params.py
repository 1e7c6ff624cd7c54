"""Parameters that are a name or a spec object: `model="hgt"` is short for `model=HGT()`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from sklearn.base import BaseEstimator

from skmmg.estimators._auto import AutoModel
from skmmg.graph._neighbors import GRAPHS
from skmmg.models import MODELS

# what to do about a nested parameter of something that has none
_INSTEAD = {
    "probe": (
        "Give the probe itself, for instance probe=make_pipeline(StandardScaler(), "
        "LogisticRegression()), and set probe__logisticregression__C."
    ),
    "optimizer": "What can be set of it are lr, weight_decay and lr_scheduler.",
}


class NamedSpecsMixin(BaseEstimator):
    """Nested parameters, such as `model__heads`, for the names of specs as well."""

    _named_specs: ClassVar[dict[str, Mapping[str, type[BaseEstimator]]]] = {
        "model": {**MODELS, AutoModel.name: AutoModel},
        "graph": GRAPHS,
    }

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get parameters, those of a spec that is given by name included.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the parameters of specs.

        Returns
        -------
        dict
            Parameter names mapped to their values.
        """
        params: dict[str, Any] = super().get_params(deep=deep)
        if not deep:
            return params
        for name, specs in self._named_specs.items():
            value = params.get(name)
            if isinstance(value, str) and value in specs:
                defaults = specs[value]().get_params()
                params |= {f"{name}__{key}": default for key, default in defaults.items()}
        return params

    def set_params(self, **params: Any) -> Self:
        """Set parameters; a nested one turns the name of a spec into the spec.

        Parameters
        ----------
        **params : dict
            Parameters, such as ``lr=1e-2`` or ``model__heads=4``.

        Returns
        -------
        self : estimator
            The estimator.
        """
        for name, specs in self._named_specs.items():
            value = params.get(name, getattr(self, name, None))
            nested = any(key.startswith(f"{name}__") for key in params)
            if nested and isinstance(value, str):
                if value not in specs:
                    raise ValueError(
                        f"{name}={value!r} has no parameters to set. Those that have some are: "
                        f"{', '.join(specs)}."
                    )
                params[name] = specs[value]()
        self._check_nested(params)
        return super().set_params(**params)

    def _check_nested(self, params: Mapping[str, Any]) -> None:
        """Raise for a nested parameter of a value that has none."""
        own = super().get_params(deep=False)
        for key in params:
            name, nested, _ = key.partition("__")
            value = params.get(name, own.get(name))
            if nested and name in own and not hasattr(value, "set_params"):
                instead = _INSTEAD.get(name, f"Set {name} itself.")
                raise ValueError(f"{name}={value!r} has no parameters to set, got {key}. {instead}")
