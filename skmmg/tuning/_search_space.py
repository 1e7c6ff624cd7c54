"""Where to search for the parameters of a model: for Optuna and for scikit-learn's searches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scipy import stats

from skmmg.models import DualMLP, ModelSpec, get_model

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class _Floats:
    """Numbers of an interval, evenly spread, or their logarithms."""

    low: float
    high: float
    log: bool = False

    def optuna(self) -> BaseDistribution:
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log)

    def sklearn(self) -> Any:
        if self.log:
            return stats.loguniform(self.low, self.high)
        return stats.uniform(self.low, self.high - self.low)

    def suggest(self, trial: Trial, name: str) -> float:
        return trial.suggest_float(name, self.low, self.high, log=self.log)


@dataclass(frozen=True)
class _Integers:
    """Integers from `low` to `high`, both included."""

    low: int
    high: int

    def optuna(self) -> BaseDistribution:
        from optuna.distributions import IntDistribution

        return IntDistribution(self.low, self.high)

    def sklearn(self) -> Any:
        return stats.randint(self.low, self.high + 1)

    def suggest(self, trial: Trial, name: str) -> int:
        return trial.suggest_int(name, self.low, self.high)


@dataclass(frozen=True)
class _Choices:
    """One of some values."""

    values: tuple[Any, ...]

    def optuna(self) -> BaseDistribution:
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.values)

    def sklearn(self) -> Any:
        return list(self.values)

    def suggest(self, trial: Trial, name: str) -> Any:
        return trial.suggest_categorical(name, self.values)


_Range = _Floats | _Integers | _Choices

# Parameters mean the same in every model, so one table serves all of them.
_MODEL: dict[str, _Range] = {
    "hidden_channels": _Choices((32, 64, 128)),
    "num_layers": _Integers(1, 3),
    "num_feature_hops": _Integers(1, 3),
    "heads": _Choices((2, 4, 8)),
    "dropout": _Floats(0.0, 0.8),
    "input_dropout": _Floats(0.0, 0.8),
}
_TRAINING: dict[str, _Range] = {
    "lr": _Floats(5e-4, 2e-2, log=True),
    "weight_decay": _Floats(1e-5, 1e-1, log=True),
}
_GRAPH: dict[str, _Range] = {"n_neighbors": _Integers(3, 30)}

# Models without a space, and why.
_WITHOUT = {
    "auto": "searches by itself, see skmmg.AutoModel",
    "cca": "has model__n_components and model__max_features alone, for a grid of your own",
    "semantic": "has model__C alone, for a grid of your own",
}


def search_space(
    model: str | ModelSpec, *, kind: str = "optuna", prefix: str = "", neighbors: bool = False
) -> dict[str, Any]:
    """Distributions of the parameters of an estimator that are worth a search.

    They are the learning rate, the weight decay, and those of width, depth, heads and dropout that
    the model has: the same ranges for every model, so that a comparison gives each the same
    chance.

    Parameters
    ----------
    model : str or ModelSpec
        Name of a model, see `skmmg.list_models`, "dual_mlp", or a spec. "auto", "cca" and
        "semantic" have no space.
    kind : {"optuna", "sklearn"}, default="optuna"
        Distributions for `optuna_integration.OptunaSearchCV`, or lists and `scipy.stats`
        distributions for `sklearn.model_selection.RandomizedSearchCV` and
        `HalvingRandomSearchCV`.
    prefix : str, default=""
        What the names begin with, as ``"classifier__"`` for a step of a Pipeline.
    neighbors : bool, default=False
        Whether to search for the number of neighbours too, ``graph__n_neighbors``, for a 2-D X
        and ``graph="knn"``.

    Returns
    -------
    dict of str to distribution
        By the name that `set_params` takes, such as ``model__dropout`` and ``lr``.

    Raises
    ------
    ValueError
        If the model or the kind is not known, or the model has no space.

    See Also
    --------
    suggest : The same for a trial of Optuna.

    Examples
    --------
    >>> from skmmg.tuning import search_space
    >>> sorted(search_space("mlp"))[:3]
    ['lr', 'model__dropout', 'model__hidden_channels']
    >>> search_space("hgt", kind="sklearn", prefix="clf__")["clf__model__heads"]
    [2, 4, 8]
    """
    if kind not in ("optuna", "sklearn"):
        raise ValueError(f"kind has to be 'optuna' or 'sklearn', got {kind!r}.")
    ranges = _ranges(model, prefix, neighbors)
    return {name: getattr(values, kind)() for name, values in ranges.items()}


def suggest(
    trial: Trial, model: str | ModelSpec, *, prefix: str = "", neighbors: bool = False
) -> dict[str, Any]:
    """Parameters of an estimator that a trial of Optuna suggests.

    Parameters
    ----------
    trial : optuna.Trial
        The trial.
    model, prefix, neighbors : see `search_space`
        The model, and what to search for.

    Returns
    -------
    dict of str to float, int or str
        Parameters for `set_params`.

    Examples
    --------
    >>> import optuna
    >>> from skmmg import MultiModalGraphClassifier
    >>> from skmmg.tuning import suggest
    >>> trial = optuna.create_study().ask()
    >>> clf = MultiModalGraphClassifier("hgt").set_params(**suggest(trial, "hgt"))
    >>> clf.get_params()["model__heads"] in (2, 4, 8)
    True
    """
    ranges = _ranges(model, prefix, neighbors)
    return {name: values.suggest(trial, name) for name, values in ranges.items()}


def _spec(model: str | ModelSpec) -> ModelSpec:
    name = getattr(model, "name", model)
    if name in _WITHOUT:
        raise ValueError(f"model={name!r} has no search space: it {_WITHOUT[name]}.")
    return DualMLP() if model == DualMLP.name else get_model(model)


def _ranges(model: str | ModelSpec, prefix: str, neighbors: bool) -> dict[str, _Range]:
    known = _spec(model).get_params(deep=False)
    out = {f"model__{name}": values for name, values in _MODEL.items() if name in known}
    out |= _TRAINING
    if neighbors:
        out |= {f"graph__{name}": values for name, values in _GRAPH.items()}
    return {prefix + name: values for name, values in out.items()}
